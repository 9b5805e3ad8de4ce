"""Terms on relations and statistics against torchdistill, on the same tensors.

Where the two differ on purpose (FSP, PKT, correlation congruence, and similarity-preserving, whose
rows it divides by their sums and not by their lengths: see `docs/losses.md`), the terms are held by
the loops of `tests/unit/losses/relation_oracles.py`.
"""

import warnings

import pytest
import torch
from torch import Tensor

from potstill import losses as L
from potstill.functional.contrast import noise_contrast
from potstill.functional.statistics import standardised
from potstill.signals import Signals, Target

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs = pytest.importorskip(
        "torchdistill.losses.mid_level", reason="torchdistill (bench/requirements.txt) is not there"
    )

B = 12
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def answers(feature: Tensor) -> dict[str, dict[str, Tensor]]:
    return {"a": {"output": feature, "input": feature}}


def at(mode: str):
    pair = {"io": "output", "path": "a"}
    return theirs.ATLoss({"only": {"teacher": pair, "student": pair}}, mode=mode)


def rkd(distance: float, angle: float):
    return theirs.RKDLoss("a", "a", distance, angle, "mean")


MAPS = draw(B, 6, 4, 4, seed=1), draw(B, 9, 4, 4, seed=2)
VECTORS = draw(B, 6, seed=1), draw(B, 9, seed=2)
CASES = [
    (L.AttentionTransfer("a", "a"), at("paper"), MAPS),
    (L.AttentionTransfer("a", "a", form="squared"), at("code"), MAPS),
    (L.RkdDistance("a", "a"), rkd(1, 0), VECTORS),
    (L.RkdAngle("a", "a"), rkd(0, 1), VECTORS),
]


@pytest.mark.parametrize(("term", "published", "tensors"), CASES, ids=[repr(c[0]) for c in CASES])
def test_value_and_gradient_are_the_same(term, published, tensors) -> None:
    student, teacher = tensors
    mine, other = student.clone().requires_grad_(), student.clone().requires_grad_()

    value = (1 * term)(Signals(features={"a": mine}), Signals(features={"a": teacher}), Target(B))
    expected = published(answers(other), answers(teacher))

    torch.testing.assert_close(value.loss, expected, **TOLERANCE)
    (gradient,) = torch.autograd.grad(value.loss, mine)
    (expected_gradient,) = torch.autograd.grad(expected, other)
    torch.testing.assert_close(gradient, expected_gradient, **TOLERANCE)
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) < 1e-5


def test_srd_is_the_same_behind_the_same_projector() -> None:
    student, teacher = VECTORS
    signals = Signals(features={"a": student}), Signals(features={"a": teacher})
    term = L.SRD("a", "a").bind(*signals)
    projected = student @ term.heads[0].weight.detach().T
    published = theirs.SRDLoss(*["a", "output"] * 4, exponent=4.0)
    scaled = [standardised(each, None, eps=1e-4) for each in (projected, teacher)]
    batch_norm = torch.nn.BatchNorm1d(9, eps=1e-4, affine=False)
    torch.testing.assert_close(scaled[0], batch_norm(projected), **TOLERANCE)

    logits = torch.zeros(B, 2)
    student_says, teacher_says = (
        {"a": {"output": each}, "head": {"output": logits}} for each in scaled
    )
    published.student_linear_module_path = published.teacher_linear_module_path = "head"
    expected = published(student_says, teacher_says) / 2  # it is twice the term, and a KL of 0

    torch.testing.assert_close((1 * term)(*signals, Target(B)).loss, expected, **TOLERANCE)


def test_contrast_is_the_same_on_the_same_scores() -> None:
    others, samples = 20, 5000
    scores = 2 * draw(B, 1 + others, seed=3)
    published = theirs.CRDLoss("a", "a", "a", 4, samples, others, samples, eps=0.0)
    mine, other = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    own = torch.zeros(B, 1 + others, dtype=torch.bool)
    own[:, 0] = True

    mean_power = scores.exp().mean()
    losses = noise_contrast(mine, own, ~own, log_ratio=(others * mean_power).log())
    powers = other.exp() / (samples * mean_power)  # divided by the constant of the first batch
    expected = published.compute_contrast_loss(powers).sum()

    torch.testing.assert_close(losses.mean(), expected, **TOLERANCE)
    (gradient,) = torch.autograd.grad(losses.mean(), mine)
    (expected_gradient,) = torch.autograd.grad(expected, other)
    torch.testing.assert_close(gradient, expected_gradient, **TOLERANCE)
