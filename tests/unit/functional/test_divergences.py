"""Properties of the divergences that hold for any logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.functional import divergences as D

finite = st.floats(-30, 30, width=32)


@st.composite
def logit_pairs(draw, min_classes: int = 2) -> tuple[Tensor, Tensor]:
    rows = draw(st.integers(1, 3))
    classes = draw(st.integers(min_classes, 6))
    values = draw(st.lists(finite, min_size=2 * rows * classes, max_size=2 * rows * classes))
    both = torch.tensor(values, dtype=torch.float32).reshape(2, rows, classes)
    return both[0], both[1]


temperatures = st.floats(0.25, 20)


def divergences(student: Tensor, teacher: Tensor, temperature: float) -> dict[str, Tensor]:
    q, p = D.log_softened(student, temperature), D.log_softened(teacher, temperature)
    return {
        "kl": D.kl(q, p.exp()),
        "reverse": D.reverse_kl(q, p),
        "jsd": D.jsd(q, p, beta=0.5),
        "binary": D.binary_kl(student / temperature, teacher / temperature).sum(-1),
    }


@settings(max_examples=60, deadline=None)
@given(logit_pairs(), temperatures)
def test_divergences_are_never_negative_and_finite(pair, temperature: float) -> None:
    for name, value in divergences(*pair, temperature).items():
        assert torch.isfinite(value).all(), name
        assert (value > -1e-5).all(), name


@settings(max_examples=60, deadline=None)
@given(logit_pairs(), temperatures)
def test_divergences_between_equals_are_zero(pair, temperature: float) -> None:
    for name, value in divergences(pair[0], pair[0], temperature).items():
        assert value.abs().max() < 1e-5, name


@settings(max_examples=60, deadline=None)
@given(logit_pairs(), st.floats(-50, 50, width=32), temperatures)
def test_a_constant_added_to_a_row_changes_nothing(pair, shift: float, temperature: float) -> None:
    student, teacher = pair[0].double(), pair[1].double()
    before = divergences(student, teacher, temperature)
    after = divergences(student + shift, teacher - shift, temperature)

    for name in ("kl", "reverse", "jsd"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(logit_pairs(), st.floats(0.01, 0.99))
def test_jsd_is_bounded_and_swaps_sides_with_beta(pair, beta: float) -> None:
    q, p = (D.log_softened(z.double(), 1) for z in pair)

    value = D.jsd(q, p, beta=beta)

    bound = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
    assert (value <= bound + 1e-9).all()
    torch.testing.assert_close(D.jsd(p, q, beta=1 - beta), value, rtol=1e-6, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(logit_pairs(min_classes=3))
def test_label_and_rest_are_the_whole_distribution(pair) -> None:
    logits = pair[0].double()
    labels = torch.zeros(len(logits), dtype=torch.long)
    target = D.is_target(labels, logits.shape[1])

    split = D.target_split(logits, target).exp()
    rest = D.other_probs(logits, target)

    whole = logits.softmax(-1)
    torch.testing.assert_close(split.sum(-1), torch.ones_like(split[:, 0]))
    torch.testing.assert_close(split[:, :1] * target + split[:, 1:] * rest, whole)
    torch.testing.assert_close(D.other_log_probs(logits, target).exp().masked_fill(target, 0), rest)


@settings(max_examples=60, deadline=None)
@given(logit_pairs(min_classes=3), st.floats(0.5, 20), st.floats(-20, 20))
def test_standardised_logits_do_not_know_scale_and_offset(pair, scale: float, shift: float) -> None:
    logits = pair[0].double() + torch.arange(pair[0].shape[1]).double() * 50  # never flat

    plain, moved = D.standardised(logits), D.standardised(scale * logits + shift)

    torch.testing.assert_close(moved, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain.std(-1), torch.ones_like(plain[:, 0]), rtol=1e-5, atol=1e-5)


def test_a_flat_row_is_standardised_to_zero_without_gradient() -> None:
    logits = torch.full((2, 5), 3.1, requires_grad=True)

    out = D.standardised(logits)
    out.sum().backward()

    assert torch.equal(out.detach(), torch.zeros(2, 5))
    assert torch.equal(logits.grad, torch.zeros(2, 5))


@pytest.mark.parametrize(
    "divergence",
    [
        lambda s, t: D.kl(D.log_softened(s, 2.0), D.softened(t, 2.0)),
        lambda s, t: D.kl(D.log_softened(D.standardised(s), 2.0), D.softened(t, 2.0)),
        lambda s, t: D.reverse_kl(D.log_softened(s, 2.0), D.log_softened(t, 2.0)),
        lambda s, t: D.jsd(D.log_softened(s, 2.0), D.log_softened(t, 2.0), beta=0.3),
        D.binary_kl,
    ],
    ids=["kl", "standardised", "reverse", "jsd", "binary"],
)
def test_gradients_are_those_of_the_values(divergence) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)

    assert torch.autograd.gradcheck(lambda s: divergence(s, teacher), student.requires_grad_())


def test_a_far_away_teacher_does_not_overflow() -> None:
    student = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    teacher = torch.tensor([[-200.0, 0.0, 200.0]])

    for name, value in divergences(student, teacher, 1.0).items():
        (gradient,) = torch.autograd.grad(value.sum(), student, retain_graph=True)
        assert torch.isfinite(value).all(), name
        assert torch.isfinite(gradient).all(), name
    jsd = D.jsd(D.log_softened(student, 1), D.log_softened(teacher, 1), beta=0.5)
    torch.testing.assert_close(jsd, torch.tensor([math.log(2)]))


def test_low_precision_is_computed_in_float32_and_float64_stays() -> None:
    assert D.log_softened(torch.zeros(1, 2, dtype=torch.bfloat16), 2).dtype is torch.float32
    assert D.softened(torch.zeros(1, 2, dtype=torch.float16), 1).dtype is torch.float32
    assert D.softened(torch.zeros(1, 2, dtype=torch.float64), 1).dtype is torch.float64
