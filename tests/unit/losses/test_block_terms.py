"""Terms on the blocks of transformers equal plain loops, and padding is nothing to them."""

import math

import pytest
import torch
from torch import Tensor

from potstill import losses as L
from potstill.errors import HandshakeError, RecipeError
from potstill.signals import Signals, Target

from . import oracles
from .cases import relative

B, H, P, D = 3, 2, 5, 3  # samples, heads, positions, features of a head
LENGTHS = (5, 3, 1)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def target(lengths=LENGTHS, positions: int = P) -> Target:
    rows = [[i < length for i in range(positions)] for length in lengths]
    return Target(len(lengths), positions=torch.tensor(rows))


def scores_of(vectors: list, heads: int) -> list:
    """`[heads][L][L]` of `[H][L][d]`: joined, divided anew, scaled dot products."""
    joined = [[v for head in vectors for v in head[i]] for i in range(len(vectors[0]))]
    size = len(joined[0]) // heads
    made = []
    for a in range(heads):
        rows = [row[a * size : (a + 1) * size] for row in joined]
        made.append(
            [[sum(x * y for x, y in zip(r, c, strict=True)) / math.sqrt(size) for c in rows]
             for r in rows]
        )  # fmt: skip
    return made


def attention_kl(student: list, teacher: list, length: int) -> float:
    total = 0.0
    for mine, theirs in zip(student, teacher, strict=True):
        for i in range(length):
            p, q = oracles.softmax(theirs[i][:length]), oracles.softmax(mine[i][:length])
            total += oracles.kl(p, q) / length / len(student)
    return total


def attention_mse(student: list, teacher: list, length: int) -> float:
    total = 0.0
    for mine, theirs in zip(student, teacher, strict=True):
        for i in range(length):
            for j in range(length):
                total += (mine[i][j] - theirs[i][j]) ** 2 / length**2 / len(student)
    return total


def hidden_mse(student: list, teacher: list, length: int) -> float:
    return sum(
        (a - b) ** 2 / length / len(student[0])
        for i in range(length)
        for a, b in zip(student[i], teacher[i], strict=True)
    )


def hidden_cosine(student: list, teacher: list, length: int) -> float:
    total = 0.0
    for i in range(length):
        dot = sum(a * b for a, b in zip(student[i], teacher[i], strict=True))
        sizes = [math.sqrt(sum(a * a for a in row)) for row in (student[i], teacher[i])]
        total += (1 - dot / sizes[0] / sizes[1]) / length
    return total


def relation(heads: int):
    def oracle(student: list, teacher: list, length: int) -> float:
        return attention_kl(scores_of(student, heads), scores_of(teacher, heads), length)

    return oracle


VALUES = ("value",)
CASES = [
    (L.AttentionKL(), "blocks.-1.scores", (B, H, P, P), attention_kl),
    (L.AttentionMSE(), "blocks.-1.scores", (B, H, P, P), attention_mse),
    (L.Relations(of=VALUES), "blocks.-1.value", (B, H, P, D), relation(H)),
    (L.Relations(of=VALUES, heads=3), "blocks.-1.value", (B, H, P, D), relation(3)),
    (L.HiddenStates(), "blocks.-1", (B, P, D), hidden_mse),
    (L.HiddenStates(distance="cosine"), "blocks.-1", (B, P, D), hidden_cosine),
]


@pytest.mark.parametrize(
    ("term", "layer", "shape", "oracle"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)[:40])
)
def test_value_and_gradient_equal_the_naive_loops(term, layer, shape, oracle) -> None:
    student, teacher = draw(*shape, seed=1), draw(*shape, seed=2)

    def naive(mine: list, theirs: list) -> float:
        return sum(oracle(s, t, n) for s, t, n in zip(mine, theirs, LENGTHS, strict=True))

    total, gradient = evaluate(term, layer, student, teacher, target())

    flat = student.double().flatten().tolist()
    expected = torch.empty(len(flat), dtype=torch.float64)
    for i in range(len(flat)):
        moved = []
        for step in (1e-5, -1e-5):
            changed = torch.tensor(flat, dtype=torch.float64)
            changed[i] += step
            moved.append(naive(changed.reshape(shape).tolist(), teacher.double().tolist()))
        expected[i] = (moved[0] - moved[1]) / 2e-5
    exact = naive(student.double().tolist(), teacher.double().tolist())
    assert relative(total, exact) < 2e-6
    assert relative(gradient.flatten(), expected) < 2e-6


@pytest.mark.parametrize(
    ("term", "layer", "shape", "oracle"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)[:40])
)
def test_padding_changes_nothing_whatever_it_holds(term, layer, shape, oracle) -> None:
    student, teacher = draw(*shape, seed=1), draw(*shape, seed=2)
    total, gradient = evaluate(term, layer, student, teacher, target())

    more = tuple(n + 3 if n == P else n for n in shape)
    wider = [torch.full(more, 1e3), torch.full(more, -1e3)]
    inside = tuple(slice(n) for n in shape)
    for tensor, values in zip(wider, (student, teacher), strict=True):
        tensor[inside] = values
    padded, padded_gradient = evaluate(term, layer, *wider, target(positions=P + 3))

    torch.testing.assert_close(padded, total, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(padded_gradient[inside], gradient, rtol=1e-5, atol=1e-7)
    outside = padded_gradient.clone()
    outside[inside] = 0
    assert float(outside.abs().max()) == 0


@pytest.mark.parametrize(
    ("term", "layer", "shape", "oracle"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)[:40])
)
def test_order_and_splitting_change_nothing(term, layer, shape, oracle) -> None:
    student, teacher = draw(*shape, seed=1), draw(*shape, seed=2)
    total, gradient = evaluate(term, layer, student, teacher, target())

    order = torch.tensor([2, 0, 1])
    mixed = target([LENGTHS[i] for i in order])
    shuffled, shuffled_gradient = evaluate(term, layer, student[order], teacher[order], mixed)
    parts = [
        evaluate(term, layer, student[i : i + 1], teacher[i : i + 1], target(LENGTHS[i : i + 1]))
        for i in range(B)
    ]

    torch.testing.assert_close(shuffled, total)
    torch.testing.assert_close(shuffled_gradient, gradient[order])
    torch.testing.assert_close(sum(t for t, _ in parts), total)
    torch.testing.assert_close(torch.cat([g for _, g in parts]), gradient)


@pytest.mark.parametrize(
    ("term", "layer", "shape", "oracle"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)[:40])
)
def test_a_student_equal_to_the_teacher_has_no_loss_and_no_gradient(
    term, layer, shape, oracle
) -> None:
    both = draw(*shape, seed=1)

    total, gradient = evaluate(term, layer, both, both, target())

    assert abs(float(total)) < 1e-6
    assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("term", "layer", "shape", "oracle"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)[:40])
)
def test_rows_that_do_not_count_and_texts_without_tokens_reach_nothing(
    term, layer, shape, oracle
) -> None:
    student, teacher = draw(*shape, seed=1), draw(*shape, seed=2)
    expected, _ = evaluate(term, layer, student[:1], teacher[:1], target(LENGTHS[:1]))
    student[2], teacher[2] = float("nan"), float("inf")
    given = target((5, 0, 1))
    given = Target(3, valid=torch.tensor([True, True, False]), positions=given.positions)

    total, gradient = evaluate(term, layer, student, teacher, given)

    torch.testing.assert_close(total, expected)
    assert torch.isfinite(gradient).all()
    assert float(gradient[1:].abs().max()) == 0
    assert int(term.count(given)) == 2


def test_pairs_are_evenly_spaced() -> None:
    needs = L.HiddenStates(layers=2, embeddings=True).needs()

    assert needs.student_layers == ("embeddings", "blocks.1/2", "blocks.2/2")
    assert L.Relations(teacher_layer="blocks.3", of="key").needs().teacher_layers == (
        "blocks.3.key",
    )


def test_several_pairs_add_up_and_share_a_projector() -> None:
    names = ("blocks.1/2", "blocks.2/2")
    student = Signals(features={n: draw(B, P, 4, seed=i) for i, n in enumerate(names)})
    teacher = Signals(features={n: draw(B, P, 6, seed=7 + i) for i, n in enumerate(names)})
    term = L.HiddenStates(layers=2).bind(student, teacher)

    total = term(student, teacher, target()).total

    one = L.Hint(names[0], names[0]).bind(student, teacher)
    object.__setattr__(one, "projectors", (term.projector,))
    other = L.Hint(names[1], names[1]).bind(student, teacher)
    object.__setattr__(other, "projectors", (term.projector,))
    both = one(student, teacher, target()).total + other(student, teacher, target()).total
    torch.testing.assert_close(total, both)
    assert [p.shape for p in term.parts().parameters()] == [(6, 4), (6,)]


def test_unequal_heads_are_named_before_training() -> None:
    student = Signals(features={"blocks.-1.scores": draw(B, 2, P, P, seed=1)})
    teacher = Signals(features={"blocks.-1.scores": draw(B, 4, P, P, seed=1)})
    with pytest.raises(HandshakeError, match="2 heads cannot be compared with 4"):
        L.AttentionKL().bind(student, teacher)

    student = Signals(features={"blocks.-1.value": draw(B, 2, P, 4, seed=1)})
    teacher = Signals(features={"blocks.-1.value": draw(B, 4, P, 4, seed=1)})
    assert L.Relations(of="value", heads=8).bind(student, teacher)
    with pytest.raises(HandshakeError, match="8 features cannot be divided into heads=3"):
        L.Relations(of="value", heads=3).bind(student, teacher)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("relations", {"of": ["values"]}, "query, key, value"),
        ("relations", {"of": []}, "one or more"),
        ("relations", {"heads": 0}, "whole number"),
        ("attention_kl", {"layers": 0}, "1 or more"),
        ("attention_kl", {"layers": 2, "teacher_layer": "blocks.3"}, "one of the two"),
        ("hidden_states", {"embeddings": "yes"}, "true or false"),
        ("hidden_states", {"distance": "l2"}, "cosine"),
    ],
)
def test_recipes_get_a_sentence_for_each_mistake(name: str, options: dict, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        L.create(name, options)


def evaluate(term, layer: str, student: Tensor, teacher: Tensor, given: Target):
    student = student.clone().requires_grad_()
    partial = term(Signals(features={layer: student}), Signals(features={layer: teacher}), given)
    (gradient,) = torch.autograd.grad(partial.total, student)
    return partial.total.detach(), gradient
