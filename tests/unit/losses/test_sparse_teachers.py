"""Teachers that kept some classes and a tail: K + 1 bins, and nothing else, decide."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from potstill import losses as L
from potstill.errors import HandshakeError
from potstill.signals import LazyLogits, Logits, Signals, SparseLogits, Target

from . import oracles
from .cases import CASES, TOLERANCE, C, Case, N, logits, relative

DIVERGENCES = [
    case
    for case in CASES
    if isinstance(case.term, L.DivergenceTerm) and not getattr(case.term, "standardise", False)
]
DENSE_ONLY = [
    case.term
    for case in CASES
    if case.term.needs().teacher_logits and not case.term.needs().sparse_teacher
]


def kept(teacher: Tensor, k: int, temperature: float) -> SparseLogits:
    """The best k classes in the order of their ids, as a codec would give them."""
    log_NC = (teacher.double() / temperature).log_softmax(-1)
    ids = log_NC.topk(k).indices.sort().values
    chosen = log_NC.gather(1, ids)
    tail = (1 - chosen.exp().sum(-1)).clamp(min=0)
    classes = teacher.shape[1]
    tail = torch.zeros_like(tail) if k == classes else tail
    return SparseLogits(ids, chosen.to(teacher.dtype), tail.to(teacher.dtype), classes, temperature)


def evaluate(
    term: L.DivergenceTerm, student: Tensor, teacher: Signals, target: Target | None = None
) -> tuple[Tensor, Tensor]:
    leaf = student.clone().requires_grad_()
    total = term(Signals(Logits(leaf)), teacher, target or Target(len(leaf))).total
    (gradient,) = torch.autograd.grad(total, leaf)
    return total.detach(), gradient


@pytest.mark.parametrize("case", DIVERGENCES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2 * TOLERANCE), (torch.float64, 1e-12)], ids=str
)
def test_with_every_class_kept_the_value_and_gradient_are_the_dense_ones(
    case: Case, dtype: torch.dtype, tolerance: float
) -> None:
    student, teacher = logits(seed=1).to(dtype), logits(seed=2).to(dtype)
    everything = kept(teacher, C, case.term.temperature)

    value, gradient = evaluate(case.term, student, Signals(everything))

    dense_value, dense_gradient = evaluate(case.term, student, Signals(Logits(teacher)))
    assert relative(value, dense_value) < tolerance
    assert relative(gradient, dense_gradient) < tolerance


@pytest.mark.parametrize("case", DIVERGENCES, ids=str)
@pytest.mark.parametrize("k", [1, 3])
def test_what_was_not_kept_is_one_bin(case: Case, k: int) -> None:
    student, teacher, t = logits(seed=1), logits(seed=2), case.term.temperature
    sparse = kept(teacher, k, t)

    value, gradient = evaluate(case.term, student, Signals(sparse))

    def naive(rows: list[list[float]], teachers: list[list[float]]) -> float:
        total = 0.0
        for row, other, ids in zip(rows, teachers, sparse.ids_NK.tolist(), strict=True):
            bins = [binned(z, ids, t) for z in (row, other)]
            total += case.oracle(*([t * math.log(p) for p in b] for b in bins), None)
        return total

    s, t_ = student.double().tolist(), teacher.double().tolist()
    assert relative(value, naive(s, t_)) < 3 * TOLERANCE
    assert relative(gradient, oracles.gradient(naive, s, t_)) < 3 * TOLERANCE


def binned(row: list[float], ids: list[int], temperature: float) -> list[float]:
    probs = oracles.softmax(row, temperature)
    return [probs[i] for i in ids] + [sum(p for i, p in enumerate(probs) if i not in ids)]


@pytest.mark.parametrize("case", DIVERGENCES, ids=str)
@pytest.mark.parametrize("k", [1, 3, C])
def test_the_closed_form_equals_autograd(case: Case, k: int) -> None:
    student, teacher = logits(seed=1).double(), logits(seed=2).double()
    sparse, before = kept(teacher, k, case.term.temperature), student.clone()

    losses, gradient = case.term.sparse_row_gradients(student, sparse, torch.empty(0))

    leaf = student.clone().requires_grad_()
    expected = case.term.sparse_row_losses(leaf, sparse, torch.empty(0))
    (by_autograd,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradient, by_autograd, rtol=1e-10, atol=1e-12)
    assert torch.equal(student, before)


@pytest.mark.parametrize("case", DIVERGENCES, ids=str)
@pytest.mark.parametrize("chunk_rows", [1, 4, N])
def test_lazy_logits_give_the_same(case: Case, chunk_rows: int) -> None:
    head, hidden = nn.Linear(3, C), torch.randn(N, 3)
    sparse = Signals(kept(logits(seed=2), 2, case.term.temperature))
    valid = torch.tensor([True, False, True, True, False, True])
    target = Target(N, valid=valid)
    found = []
    for lazy in (True, False):
        leaf = hidden.clone().requires_grad_()
        student = LazyLogits(leaf, head, chunk_rows=chunk_rows) if lazy else Logits(head(leaf))
        total = case.term(Signals(student), sparse, target).total
        found.append((total.detach(), *torch.autograd.grad(total, [leaf, head.weight, head.bias])))

    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_terms_on_labels_do_not_ask_what_the_teacher_kept(lazy: bool) -> None:
    leaf, head = torch.randn(N, 3).requires_grad_(), nn.Linear(3, C)
    student = LazyLogits(leaf, head, chunk_rows=2) if lazy else Logits(head(leaf))
    objective = 0.5 * L.KD(temperature=1) + 0.5 * L.CrossEntropy()

    loss = objective(
        Signals(student), Signals(kept(logits(seed=2), 2, 1)), Target(N, torch.arange(N) % C)
    ).loss
    loss.backward()

    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("case", DIVERGENCES, ids=str)
@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_empty_places_mean_nothing(case: Case, lazy: bool) -> None:
    student, few = logits(seed=1), kept(logits(seed=2), 2, case.term.temperature)
    more = replace(
        few,
        ids_NK=torch.cat([torch.zeros(N, 3, dtype=torch.long), few.ids_NK], 1),
        logprobs_NK=torch.cat([torch.full((N, 3), -math.inf), few.logprobs_NK], 1),
    )
    found = []

    for teacher in (few, more):
        leaf, head = student.clone().requires_grad_(), nn.Linear(C, C, bias=False)
        nn.init.eye_(head.weight)
        made = LazyLogits(leaf, head) if lazy else Logits(leaf)
        total = case.term(Signals(made), Signals(teacher), Target(N)).total
        found.append((total.detach(), *torch.autograd.grad(total, leaf)))

    assert relative(found[1][0], found[0][0]) < TOLERANCE
    assert relative(found[1][1], found[0][1]) < TOLERANCE


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_rows_that_do_not_count_may_hold_anything(lazy: bool) -> None:
    term, sparse = L.KD(temperature=2), kept(logits(seed=2), 2, 2)
    sparse.ids_NK[0], sparse.logprobs_NK[0], sparse.tail_N[0] = 10**6, math.nan, math.nan
    leaf, head = logits(seed=1).requires_grad_(), nn.Linear(C, C)
    student = LazyLogits(leaf, head) if lazy else Logits(leaf)

    total = term(Signals(student), Signals(sparse), Target(N, valid=torch.arange(N) > 0)).total
    (gradient,) = torch.autograd.grad(total, leaf)

    assert torch.isfinite(total)
    assert not gradient[0].any()
    assert gradient[1:].any(dim=1).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-20, 20, width=32), min_size=2 * 7, max_size=2 * 7),
    st.integers(1, 7),
    st.sampled_from([L.KD(temperature=2), L.ReverseKL(), L.JSD(), L.SkewKL(), L.SkewReverseKL()]),
)
def test_bins_never_say_more_than_all_classes(
    values: list[float], k: int, term: L.DivergenceTerm
) -> None:
    student, teacher = torch.tensor(values).double().reshape(2, 1, 7)

    value, gradient = evaluate(term, student, Signals(kept(teacher, k, term.temperature)))

    dense, _ = evaluate(term, student, Signals(Logits(teacher)))
    assert -1e-9 <= float(value) <= float(dense) + 1e-6 * (1 + float(dense))
    assert torch.isfinite(gradient).all()
    assert abs(float(gradient.sum())) < 1e-6 * (1 + float(gradient.abs().sum()))


SMOOTH = [case for case in DIVERGENCES if not isinstance(case.term, L.TotalVariation)]  # no kink


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_a_student_equal_to_the_teacher_has_no_loss_and_no_gradient(case: Case) -> None:
    both = logits(seed=1).double()

    value, gradient = evaluate(case.term, both, Signals(kept(both, 2, case.term.temperature)))

    assert abs(float(value)) < 1e-9
    assert float(gradient.abs().max()) < 1e-9


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_a_tail_too_small_for_a_difference_from_one_keeps_its_gradient(lazy: bool) -> None:
    leaf = torch.zeros(1, C)
    leaf[0, :2] = 40  # the student's tail is 3e-18: 1 - kept would be 0 in float32
    teacher = SparseLogits(
        torch.tensor([[0, 1]]), torch.tensor([[0.4, 0.5]]).log(), torch.tensor([0.1]), C, 1.0
    )
    head = nn.Linear(C, C, bias=False)
    nn.init.eye_(head.weight)
    leaf.requires_grad_()

    student = LazyLogits(leaf, head) if lazy else Logits(leaf)
    total = L.KD(temperature=1)(Signals(student), Signals(teacher), Target(1)).total
    (gradient,) = torch.autograd.grad(total, leaf)

    assert float(total.detach()) == pytest.approx(
        0.4 * math.log(0.4 / 0.5) + 0.1 * (math.log(0.1) + 40 - math.log(1.5)), rel=1e-5
    )
    torch.testing.assert_close(gradient[0, 2:], torch.full((C - 2,), -0.1 / (C - 2)))


def test_sampled_classes_give_the_gradient_q_minus_t() -> None:
    student = logits(seed=1)
    ids = torch.tensor([[0, 3], [1, 2], [4, 0], [2, 3], [1, 0], [3, 4]])
    frequencies = torch.tensor([[0.75, 0.25]]).expand(N, 2)
    sampled = SparseLogits(ids, frequencies.log(), torch.zeros(N), C, 1.0)

    _, gradient = evaluate(L.KD(temperature=1), student, Signals(sampled))

    expected = student.softmax(-1).scatter_add(1, ids, -frequencies)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_the_mean_gradient_over_draws_is_the_dense_one() -> None:
    draws, per_row = 20_000, 8
    student, teacher = logits(1, seed=1), logits(1, seed=2)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(
        teacher.softmax(-1).expand(draws, C), per_row, True, generator=generator
    )
    frequencies = nn.functional.one_hot(drawn, C).sum(1) / per_row
    sampled = SparseLogits(
        torch.arange(C).expand(draws, C), frequencies.log(), torch.zeros(draws), C, 1.0
    )

    _, gradient = evaluate(L.KD(temperature=1), student.expand(draws, C), Signals(sampled))

    _, dense = evaluate(L.KD(temperature=1), student, Signals(Logits(teacher)))
    torch.testing.assert_close(gradient.mean(0), dense[0], rtol=0, atol=4 * 0.5 / math.sqrt(draws))


SAMPLES = {L.KD(temperature=1), L.AlphaBeta(alpha=1, beta=0), L.JSD(beta=0, scale="even")}


@pytest.mark.parametrize("case", DIVERGENCES, ids=str)
def test_samples_are_for_forward_kl_alone(case: Case) -> None:
    best = kept(logits(seed=2), 2, case.term.temperature)
    student, drawn = logits(seed=1), Signals(replace(best, sampled=True))
    if isinstance(case.term, L.KD) or repr(case.term) in {repr(term) for term in SAMPLES}:
        assert torch.equal(
            evaluate(case.term, student, drawn)[1], evaluate(case.term, student, Signals(best))[1]
        )
        return

    with pytest.raises(HandshakeError, match="were sampled, which is right on average for forward"):
        evaluate(case.term, student, drawn)


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_another_temperature_is_refused(lazy: bool) -> None:
    student = LazyLogits(torch.randn(N, 3), nn.Linear(3, C)) if lazy else Logits(logits(seed=1))

    with pytest.raises(HandshakeError, match=r"`kd`: it has temperature 4, .* computed at 2"):
        L.KD(temperature=4)(Signals(student), Signals(kept(logits(seed=2), 2, 2)), Target(N))


@pytest.mark.parametrize("term", [*DENSE_ONLY, L.DIST()], ids=repr)
@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_other_terms_want_all_classes_and_say_so(term: L.ArithmeticTerm, lazy: bool) -> None:
    student = LazyLogits(torch.randn(N, 3), nn.Linear(3, C)) if lazy else Logits(logits(seed=1))
    teacher, labels = Signals(kept(logits(seed=2), 2, 1)), torch.arange(N) % C

    with pytest.raises(HandshakeError, match="all 5 classes and got the best 2"):
        term(Signals(student), teacher, Target(N, labels))
