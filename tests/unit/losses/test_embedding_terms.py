"""Terms on embeddings equal plain loops; order, masks and widths are handled as they say."""

import math

import pytest
import torch
from torch import Tensor

from potstill import losses as L
from potstill.errors import HandshakeError
from potstill.functional.similarity import principal_directions
from potstill.signals import Logits, Signals, Target

from . import oracles
from .cases import relative

N, D = 5, 4


def draw(rows: int, width: int, *, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def cosine(a, b) -> float:
    sizes = [math.sqrt(sum(v * v for v in row)) for row in (a, b)]
    return sum(x * y for x, y in zip(a, b, strict=True)) / sizes[0] / sizes[1]


def cosine_loss(student, teacher, second) -> float:
    return sum(1 - cosine(s, t) for s, t in zip(student, teacher, strict=True))


def squares(student, teacher, second) -> float:
    pairs = zip(student, teacher, strict=True)
    return sum((a - b) ** 2 for s, t in pairs for a, b in zip(s, t, strict=True))


def similarity(scale: float):
    def oracle(student, teacher, second) -> float:
        total = 0.0
        for i in range(len(student)):
            others = [j for j in range(len(student)) if j != i]
            p = oracles.softmax([scale * cosine(teacher[i], teacher[j]) for j in others])
            q = oracles.softmax([scale * cosine(student[i], student[j]) for j in others])
            total += oracles.kl(p, q)
        return total

    return oracle


def contrast(scale: float):
    def oracle(student, teacher, second) -> float:
        total = 0.0
        for i, row in enumerate(student):
            total -= math.log(oracles.softmax([scale * cosine(row, other) for other in second])[i])
        return total

    return oracle


CASES = [
    (L.EmbeddingCosine(), cosine_loss),
    (L.EmbeddingMSE(), squares),
    (L.SimilarityKL(scale=3), similarity(3)),
    (L.SimilarityKL(), similarity(20)),
    (L.Contrastive(scale=3), contrast(3)),
]


@pytest.mark.parametrize(
    ("term", "oracle"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)[:30])
)
def test_value_and_gradient_equal_the_naive_loops(term, oracle) -> None:
    student, teacher, second = (draw(N, D, seed=seed) for seed in (1, 2, 3))

    total, gradient = evaluate(term, student, teacher, second, Target(N))

    lists = [t.double().tolist() for t in (student, teacher, second)]
    expected = torch.empty(N, D, dtype=torch.float64)
    for i in range(N):
        for j in range(D):
            moved = []
            for step in (1e-5, -1e-5):
                rows = [list(row) for row in lists[0]]
                rows[i][j] += step
                moved.append(oracle(rows, *lists[1:]))
            expected[i, j] = (moved[0] - moved[1]) / 2e-5
    assert relative(total, oracle(*lists)) < 5e-6
    assert relative(gradient, expected) < 5e-6


@pytest.mark.parametrize(
    ("term", "oracle"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)[:30])
)
def test_rows_that_do_not_count_are_nobodys_neighbours(term, oracle) -> None:
    student, teacher, second = (draw(N, D, seed=seed) for seed in (1, 2, 3))
    expected, expected_gradient = evaluate(term, student[:3], teacher[:3], second[:3], Target(3))
    for tensor in (student, teacher, second):
        tensor[3:] = float("nan")
    valid = torch.tensor([True, True, True, False, False])

    total, gradient = evaluate(term, student, teacher, second, Target(N, valid=valid))

    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(gradient[:3], expected_gradient)
    assert float(gradient[3:].abs().max()) == 0


@pytest.mark.parametrize(
    ("term", "oracle"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)[:30])
)
def test_order_changes_nothing(term, oracle) -> None:
    student, teacher, second = (draw(N, D, seed=seed) for seed in (1, 2, 3))
    order = torch.tensor([3, 1, 4, 0, 2])

    total, gradient = evaluate(term, student, teacher, second, Target(N))
    mixed, mixed_gradient = evaluate(term, student[order], teacher[order], second[order], Target(N))

    torch.testing.assert_close(mixed, total)
    torch.testing.assert_close(mixed_gradient, gradient[order])


def test_similarities_need_neither_the_width_nor_the_basis_of_the_teacher() -> None:
    teacher = draw(N, 6, seed=2)
    turn, _ = torch.linalg.qr(draw(6, 6, seed=3))

    total, gradient = evaluate(L.SimilarityKL(), teacher @ turn, teacher, teacher, Target(N))
    _, other = evaluate(L.SimilarityKL(), draw(N, 3, seed=1), teacher, teacher, Target(N))

    assert abs(float(total)) < 1e-5
    assert float(gradient.abs().max()) < 1e-4
    assert float(other.abs().max()) > 0.01


def test_another_width_gets_a_projector_that_learns() -> None:
    student, teacher = draw(32, 3, seed=1).requires_grad_(), draw(32, 6, seed=2)
    said, told = Signals(logits=Logits(student)), Signals(logits=Logits(teacher))
    with pytest.raises(HandshakeError, match="from 3 features to 6"):
        L.EmbeddingCosine()(said, told, Target(32))

    term = L.EmbeddingCosine().bind(said, told)
    optimizer = torch.optim.Adam([student, *term.parts().parameters()], lr=0.05)
    losses = []
    for _ in range(30):
        loss = term(said, told, Target(32)).total / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.5 * losses[0]
    assert L.EmbeddingCosine().bind(told, told).parts() is None


def test_one_text_alone_teaches_nothing_and_breaks_nothing() -> None:
    total, gradient = evaluate(
        L.SimilarityKL(), draw(1, D, seed=1), draw(1, D, seed=2), draw(1, D, seed=3), Target(1)
    )

    assert float(total) == 0
    assert float(gradient.abs().max()) == 0


def test_main_directions_keep_products_best() -> None:
    vectors = draw(50, 6, seed=1) * torch.tensor([5.0, 4, 3, 0.1, 0.1, 0.1])

    directions = principal_directions(vectors, 3)

    reduced = vectors @ directions
    torch.testing.assert_close(directions.T @ directions, torch.eye(3), rtol=1e-5, atol=1e-6)
    error = (reduced @ reduced.T - vectors @ vectors.T).norm() / (vectors @ vectors.T).norm()
    assert float(error) < 0.01


def evaluate(term, student: Tensor, teacher: Tensor, second: Tensor, target: Target):
    student = student.clone().requires_grad_()
    said = Signals(logits=Logits(student), second=second)
    partial = term(said, Signals(logits=Logits(teacher)), target)
    (gradient,) = torch.autograd.grad(partial.total, student)
    return partial.total.detach(), gradient
