"""Terms that tell samples apart: values, gradients, and what they remember."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from potstill import losses as L
from potstill.features.memory import Memory
from potstill.signals import Target

from . import relation_oracles as oracles
from .test_relational_terms import B, D, E, draw, signals


def pair(seed: int) -> tuple[Tensor, Tensor]:
    return draw(B, D, seed=seed), draw(B, E, seed=seed + 1)


def bound(term, student: Tensor, teacher: Tensor):
    made = term.bind(signals(student), signals(teacher))
    made.parts().double()
    return made


def evaluate(term, student: Tensor, teacher: Tensor, target=None) -> tuple[Tensor, Tensor]:
    leaf = student.clone().requires_grad_()
    value = (1 * term)(signals(leaf), signals(teacher), target or Target(len(leaf))).loss
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


@pytest.mark.parametrize(
    ("options", "oracle"),
    [
        ({}, {"samples": None, "choice": False}),
        ({"samples": 50}, {"samples": 50, "choice": False}),
        ({"against": "info_nce"}, {"samples": None, "choice": True}),
    ],
    ids=str,
)
def test_contrast_in_a_batch_equals_the_naive_loops(options, oracle) -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)
    term = bound(L.CRD("a", "a", dim=3, temperature=0.5, **options), student, teacher)
    contrast = term.contrasts[0]

    value, gradient = evaluate(term, student, teacher)

    leaf = student.clone().requires_grad_()
    expected = oracles.crd(
        contrast.student_head(leaf),
        contrast.teacher_head(teacher).detach(),
        temperature=0.5,
        **oracle,
    )
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-8)


def test_the_ratio_of_the_first_batch_stays() -> None:
    first, second = (
        (draw(B, D, seed=1), draw(B, E, seed=2)),
        (draw(B, D, seed=3), draw(B, E, seed=4)),
    )
    one, other = bound(L.CRD("a", "a"), *first), bound(L.CRD("a", "a"), *first)
    evaluate(one, *first)
    kept = one.contrasts[0].mean_powers.clone()

    after, _ = evaluate(one, *second)
    fresh, _ = evaluate(other, *second)

    assert torch.equal(one.contrasts[0].mean_powers, kept)
    assert (kept > 0).all()
    assert float(after) != float(fresh)


@pytest.mark.parametrize("queue", [3, 8])
def test_the_queue_holds_others_of_earlier_batches(queue: int) -> None:
    """With vectors of two batches remembered, as if the candidates had been one longer batch."""
    batches = [(draw(4, D, seed=2 * n), draw(4, E, seed=2 * n + 1)) for n in range(3)]
    term = L.CRD("a", "a", queue=queue, against="info_nce", temperature=0.5)
    term = bound(term, *batches[0])
    contrast = term.contrasts[0]
    for batch in batches[:2]:
        evaluate(term, *batch)

    value, _ = evaluate(term, *batches[2])

    sides = []
    for head, side in ((contrast.student_head, 0), (contrast.teacher_head, 1)):
        vectors = [F.normalize(head(batch[side]), dim=1) for batch in batches]
        sides.append((vectors[2], torch.cat([vectors[2], torch.cat(vectors[:2])[-queue:]])))
    expected = 0.0
    for (anchors, _), (_, candidates) in (sides, reversed(sides)):
        logits = anchors @ candidates.T / 0.5
        expected += F.cross_entropy(logits, torch.arange(4))
    torch.testing.assert_close(value, expected.detach())


def test_similarity_to_the_queue_equals_the_naive_loops() -> None:
    first, second = (
        (draw(B, D, seed=1), draw(B, E, seed=2)),
        (draw(B, D, seed=3), draw(B, E, seed=4)),
    )
    term = L.QueueSimilarity("a", "a", queue=16, temperature=0.4, teacher_temperature=0.2)
    term = bound(term, *first)
    evaluate(term, *first)

    value, gradient = evaluate(term, *second)

    leaf = second[0].clone().requires_grad_()
    projected = term.likenesses[0].projector(leaf)
    expected = oracles.queue_similarity(
        projected, second[1], first[1], temperature=0.4, teachers=0.2
    )
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-8)


def test_the_teacher_itself_has_no_similarity_to_learn_and_no_projector() -> None:
    teacher = draw(B, E, seed=2)
    term = bound(L.QueueSimilarity("a", "a"), teacher, teacher)

    value, gradient = evaluate(term, teacher, teacher)

    assert abs(float(value)) < 1e-10
    assert float(gradient.abs().max()) < 1e-10
    assert list(term.parts().parameters()) == []
    (line,) = term.describe(signals(teacher), signals(teacher))
    assert line == "a → a: [6] → [6], no projector, queue of 4096"


@pytest.mark.parametrize("queue", [0, 6])
@pytest.mark.parametrize("make", [L.CRD, L.QueueSimilarity])
def test_rows_that_do_not_count_are_neither_others_nor_remembered(make, queue: int) -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)
    short = bound(make("a", "a", queue=queue), student, teacher)
    long = bound(make("a", "a", queue=queue), student, teacher)
    padded = student.clone(), teacher.clone()
    padded[0][3:], padded[1][3:] = float("nan"), float("inf")
    target = Target(B, valid=torch.tensor([True, True, True, False, False]))

    for _ in range(3):
        expected, expected_gradient = evaluate(short, student[:3], teacher[:3])
        value, gradient = evaluate(long, *padded, target)

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[:3], expected_gradient)
    assert not gradient[3:].any()


def test_order_changes_neither_value_nor_gradient() -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)
    order = torch.tensor([3, 1, 4, 0, 2])
    for make in (L.CRD, L.QueueSimilarity):
        one, other = (bound(make("a", "a"), student, teacher) for _ in range(2))

        value, gradient = evaluate(one, student, teacher)
        mixed, mixed_gradient = evaluate(other, student[order], teacher[order])

        torch.testing.assert_close(mixed, value)
        torch.testing.assert_close(mixed_gradient, gradient[order])


def test_both_sides_of_a_contrast_learn_and_the_teacher_does_not() -> None:
    student, teacher = draw(B, D, seed=1).requires_grad_(), draw(B, E, seed=2).requires_grad_()
    term = bound(L.CRD("a", "a", queue=4), student, teacher)

    term(signals(student), signals(teacher), Target(B)).total.backward()

    assert teacher.grad is None
    assert all(p.grad.abs().sum() > 0 for p in term.parts().parameters() if p.ndim > 1)
    assert student.grad.any()


def test_a_memory_keeps_the_last_that_count_and_only_while_training() -> None:
    memory, rows = Memory(3, 1), torch.arange(1.0, 9.0)[:, None]
    assert not memory.read()[1].any()

    memory.put(rows[:2], None)
    memory.put(rows[2:5], torch.tensor([True, False, True]))  # 3 and 5
    vectors, alive = memory.read()
    assert sorted(vectors[alive, 0].tolist()) == [2, 3, 5]

    memory.eval().put(rows[5:6], None)
    assert sorted(memory.read()[0][:, 0].tolist()) == [2, 3, 5]
    memory.train().put(rows, None)
    assert sorted(memory.read()[0][:, 0].tolist()) == [6, 7, 8]
    assert set(memory.state_dict()) == {"vectors", "next", "filled"}
