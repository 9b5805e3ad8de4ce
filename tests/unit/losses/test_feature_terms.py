"""Hints between unlike architectures, and how little a new feature term takes."""

import itertools
from dataclasses import dataclass
from typing import final

import pytest
import torch
from torch import Tensor, nn

from potstill import losses as L
from potstill.errors import HandshakeError
from potstill.features import tapped
from potstill.signals import Signals, Target


@final
@dataclass(frozen=True, repr=False)
class Loudness(L.FeatureTerm):
    """A third party's term: the squared difference of how strongly two layers answer."""

    def sample_losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """As in `FeatureTerm`."""
        return (student.flatten(1).norm(dim=1) - teacher.flatten(1).norm(dim=1)).square()


class TinyViT(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True, dropout=0)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).movedim(1, 2)
        return self.block(torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)).mean(1)


class TinyConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Conv2d(3, 8, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).mean((2, 3))


class TinyMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(3 * 16 * 16, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.flatten(1))


MODELS = {"vit": TinyViT, "conv": TinyConv, "mlp": TinyMLP}


def read(model: nn.Module, images: Tensor) -> Signals:
    with tapped(model, ["block"]) as features:
        model(images)
    return Signals(features=features)


def seeded(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("distance", ["squared_error", "cosine"])
@pytest.mark.parametrize("teacher", MODELS)
@pytest.mark.parametrize("student", MODELS)
def test_a_hint_is_learnt_between_any_two_architectures(student, teacher, distance: str) -> None:
    torch.manual_seed(0)
    small, large, images = MODELS[student](), MODELS[teacher](), torch.randn(4, 3, 16, 16)
    signals = read(large, images)
    hint = 1 * L.Hint("block", "block", distance=distance)
    hint = hint.bind(read(small, images), signals)
    parameters = [*small.parameters(), *hint.parts().parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)

    losses = []
    for _ in range(20):
        loss = hint(read(small, images), signals, Target(4)).loss
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert losses[-1] < 0.97 * losses[0]
    assert bool(len(list(hint.parts().parameters()))) == (student != teacher)


def test_a_hint_equals_the_naive_loops() -> None:
    student, teacher = seeded((3, 2, 4), 0), seeded((3, 2, 4), 1)  # tokens [B, T, D]
    signals = Signals(features={"a": student}), Signals(features={"b": teacher})

    squares = L.Hint("a", "b")(*signals, Target(3)).total
    cosines = L.Hint("a", "b", distance="cosine")(*signals, Target(3)).total

    pairs = list(zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True))
    assert float(squares) == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / 8, rel=1e-6)
    expected = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        for x, y in zip(s, t, strict=True):
            dot = sum(a * b for a, b in zip(x, y, strict=True))
            size = (sum(a * a for a in x) * sum(b * b for b in y)) ** 0.5
            expected += (1 - dot / size) / 2
    assert float(cosines) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("splits", [[8], [3, 5], [1, 1, 6]], ids=str)
def test_splitting_a_step_does_not_change_a_hint(splits: list[int]) -> None:
    student, teacher = seeded((8, 3, 4, 4), 0).requires_grad_(), seeded((8, 5, 2, 2), 1)
    valid = torch.tensor([1, 0, 1, 1, 1, 1, 0, 1]).bool()
    hint = 1 * L.Hint("a", "b")
    hint = hint.bind(Signals(features={"a": student}), Signals(features={"b": teacher}))

    def loss(rows: slice, counts=None) -> Tensor:
        target = Target(len(valid[rows]), valid=valid[rows])
        signals = Signals(features={"a": student[rows]}), Signals(features={"b": teacher[rows]})
        return hint(*signals, target, counts).loss

    (expected,) = torch.autograd.grad(loss(slice(None)), student)
    edges = [0, *torch.tensor(splits).cumsum(0).tolist()]
    total = sum(loss(slice(a, b), (valid.sum(),)) for a, b in itertools.pairwise(edges))
    (gradient,) = torch.autograd.grad(total, student)

    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)


def test_garbage_in_padding_rows_reaches_neither_student_nor_projector() -> None:
    student, teacher = seeded((4, 3), 0), seeded((4, 5), 1)
    hint = L.Hint("a", "b").bind(Signals(features={"a": student}), Signals(features={"b": teacher}))
    student[3], teacher[3] = float("nan"), float("inf")
    student.requires_grad_()

    total = hint(
        Signals(features={"a": student}),
        Signals(features={"b": teacher}),
        Target(4, valid=torch.tensor([True, True, True, False])),
    ).total
    total.backward()

    assert torch.isfinite(total)
    assert torch.isfinite(hint.projector.weight.grad).all()
    assert torch.equal(student.grad[3], torch.zeros(3))


def test_several_rows_a_sample_weigh_the_mean_over_samples() -> None:
    student, teacher = seeded((2, 3, 4), 0), seeded((2, 3, 4), 1)

    partial = L.Hint("a", "b")(
        Signals(features={"a": student}), Signals(features={"b": teacher}), Target(6)
    )

    torch.testing.assert_close(partial.total / partial.count, (student - teacher).square().mean())


def test_binding_makes_a_copy_with_its_own_projector() -> None:
    hint = L.Hint("a", "b")
    signals = Signals(features={"a": seeded((2, 3), 0)}), Signals(features={"b": seeded((2, 5), 0)})

    one, two = hint.bind(*signals), hint.bind(*signals)

    assert hint.parts() is None
    assert one == hint
    assert repr(one) == 'Hint("a", "b")'
    assert one.projector is not two.projector
    assert torch.equal(one.projector.weight, two.projector.weight)
    assert len((L.KD() + 2 * hint).bind(*signals).parts()) == 1


def test_the_teacher_gets_no_gradient() -> None:
    teacher = seeded((2, 3), 1).requires_grad_()
    student = seeded((2, 3), 0).requires_grad_()

    L.Hint("a", "b")(
        Signals(features={"a": student}), Signals(features={"b": teacher}), Target(2)
    ).total.backward()

    assert teacher.grad is None
    assert student.grad.any()


def test_a_new_feature_term_gets_projection_arithmetic_and_a_name() -> None:
    student, teacher = seeded((2, 3, 4, 4), 0), seeded((2, 5, 2, 2), 1)
    signals = Signals(features={"a": student}), Signals(features={"b": teacher})
    objective = 0.5 * Loudness("a", "b") + L.Hint("a", "b", project=False)

    assert repr(objective) == '0.5 * Loudness("a", "b") + Hint("a", "b", project=False)'
    assert objective.names == ("loudness", "hint")
    value = (0.5 * Loudness("a", "b")).bind(*signals)(*signals, Target(2))
    assert value.loss.requires_grad
    assert float(value.loss.detach()) > 0


@pytest.mark.parametrize(
    ("term", "says"),
    [
        (L.Hint("x", "b"), "student's layer `x` and got `a`"),
        (L.Hint("a", "x"), "teacher's layer `x` and got `b`"),
        (L.Hint("a", "b"), "call `objective.bind"),
    ],
)
def test_missing_layers_and_projectors_are_named(term: L.Hint, says: str) -> None:
    signals = Signals(features={"a": seeded((2, 3), 0)}), Signals(features={"b": seeded((2, 5), 0)})

    with pytest.raises(HandshakeError, match=says):
        term(*signals, Target(2))


def test_unequal_shapes_without_projector_are_refused_when_bound() -> None:
    signals = Signals(features={"a": seeded((2, 3), 0)}), Signals(features={"b": seeded((2, 5), 0)})

    with pytest.raises(HandshakeError, match=r"\[2, 3\] from `a` and \[2, 5\] from `b`"):
        L.Hint("a", "b", project=False).bind(*signals)
