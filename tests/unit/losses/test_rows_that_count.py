"""Masks, micro-batches, order and garbage: what must not change a term."""

import itertools

import pytest
import torch
from torch import Tensor

from potstill import losses as L
from potstill.signals import Logits, Signals, Target

from .cases import CASES, C, Case, evaluate, logits

NEED_LABELS = [case for case in CASES if case.labels]
COMPARE_PROBABILITIES = [  # the others compare logits, of which -inf is none
    case
    for case in CASES
    if case.term.needs().teacher_logits
    and not case.term.needs().raw_teacher_logits
    and case.term != L.KD(temperature=2, standardise=True)
]
ROWS = 8


def cut(value: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if value is None else value[start:stop]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("splits", [[8], [3, 5], [1, 1, 6]], ids=str)
def test_splitting_a_step_does_not_change_loss_or_gradient(case: Case, splits: list[int]) -> None:
    student, teacher = logits(ROWS, seed=1).requires_grad_(), logits(ROWS, seed=2)
    valid = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1]).bool()
    labelled = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1]).bool()
    labels, objective = case.make_labels(ROWS), 0.7 * case.term
    whole = Target(ROWS, labels, valid, labelled)
    expected = objective(Signals(Logits(student)), Signals(Logits(teacher)), whole).loss
    (expected_gradient,) = torch.autograd.grad(expected, student)

    edges = [0, *torch.tensor(splits).cumsum(0).tolist()]
    parts = list(itertools.pairwise(edges))
    targets = [
        Target(b - a, cut(labels, a, b), cut(valid, a, b), cut(labelled, a, b)) for a, b in parts
    ]
    counts = tuple(sum(c) for c in zip(*(objective.counts(t) for t in targets), strict=True))
    gradient, loss = torch.zeros_like(student), 0.0
    for (a, b), target in zip(parts, targets, strict=True):
        value = objective(
            Signals(Logits(student[a:b])), Signals(Logits(teacher[a:b])), target, counts
        )
        gradient += torch.autograd.grad(value.loss, student)[0]
        loss += float(value.loss.detach())

    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("case", [*CASES, Case(L.DIST(), lambda s, t, y: 0.0)], ids=str)
def test_padding_with_garbage_changes_neither_value_nor_gradient(case: Case) -> None:
    student, teacher, labels = logits(4, seed=1), logits(4, seed=2), case.make_labels(4)
    garbage = torch.tensor([[float("nan")] * C, [float("-inf")] * C, [float("inf")] * C])
    padded_labels = None
    if labels is not None:
        bad = torch.full((3, *labels.shape[1:]), -100 if labels.ndim == 1 else float("nan"))
        padded_labels = torch.cat([labels, bad.to(labels.dtype)])
    valid = torch.tensor([True] * 4 + [False] * 3)

    total, count, gradient = evaluate(case.term, student, teacher, Target(4, labels))
    padded_total, padded_count, padded_gradient = evaluate(
        case.term,
        torch.cat([student, garbage]),
        torch.cat([teacher, garbage]),
        Target(7, padded_labels, valid),
    )

    assert int(padded_count) == count == 4
    torch.testing.assert_close(padded_total, total, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(padded_gradient[:4], gradient, rtol=1e-5, atol=1e-6)
    assert torch.equal(padded_gradient[4:], torch.zeros(3, C))


@pytest.mark.parametrize("case", [*CASES, Case(L.DIST(), lambda s, t, y: 0.0)], ids=str)
def test_the_order_of_rows_does_not_matter(case: Case) -> None:
    student, teacher, labels = logits(seed=1), logits(seed=2), case.make_labels()
    order = torch.tensor([3, 0, 5, 1, 4, 2])

    total, _, gradient = evaluate(case.term, student, teacher, Target(6, labels))
    moved_total, _, moved_gradient = evaluate(
        case.term,
        student[order],
        teacher[order],
        Target(6, None if labels is None else labels[order]),
    )

    torch.testing.assert_close(moved_total, total, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moved_gradient, gradient[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_only_terms_that_need_labels_skip_rows_without_one(case: Case) -> None:
    student, teacher, labels = logits(seed=1), logits(seed=2), case.make_labels()
    labelled = torch.tensor([True, False, True, True, False, True])

    _, count, gradient = evaluate(case.term, student, teacher, Target(6, labels, None, labelled))

    if case.labels:
        assert int(count) == 4
        assert not gradient[~labelled].any()
        assert gradient[labelled].any(dim=1).all()
    else:
        assert int(count) == 6
        assert gradient.any(dim=1).all()


@pytest.mark.parametrize("case", NEED_LABELS, ids=str)
@pytest.mark.parametrize("labelled", [torch.zeros(6, dtype=torch.bool), None], ids=["mask", "none"])
def test_a_batch_without_any_label_gives_zero_and_can_go_backward(case: Case, labelled) -> None:
    student = logits(seed=1).requires_grad_()
    labels = case.make_labels() if labelled is not None else None
    target = Target(6, labels, None, labelled)

    value = (1.0 * case.term)(Signals(Logits(student)), Signals(Logits(logits(seed=2))), target)
    value.loss.backward()

    assert float(value.loss.detach()) == 0
    assert int(case.term.count(target)) == 0
    assert not student.grad.any()


@pytest.mark.parametrize("term", [L.KD(), L.DIST()], ids=repr)
def test_a_batch_of_padding_alone_gives_zero(term: L.ArithmeticTerm) -> None:
    student = torch.full((3, C), float("nan")).requires_grad_()

    value = (1 * term)(
        Signals(Logits(student)),
        Signals(Logits(student.detach())),
        Target(3, valid=torch.zeros(3, dtype=torch.bool)),
    )
    value.loss.backward()

    assert float(value.loss.detach()) == 0
    assert torch.equal(student.grad, torch.zeros(3, C))


@pytest.mark.parametrize("case", COMPARE_PROBABILITIES, ids=str)
def test_a_class_that_the_teacher_rules_out_leaves_everything_finite(case: Case) -> None:
    student, teacher = logits(seed=1), logits(seed=2)
    teacher[:, 1] = float("-inf")
    teacher[0, :3] = float("-inf")

    total, _, gradient = evaluate(case.term, student, teacher, Target(6, case.make_labels()))

    assert torch.isfinite(total)
    assert torch.isfinite(gradient).all()
    steep = isinstance(case.term, L.AlphaBeta) and case.term.alpha + case.term.beta > 1
    smoothed = isinstance(case.term, L.HardKD) and case.term.label_smoothing > 0
    if not (
        isinstance(case.term, L.ProbabilityMSE) or steep or smoothed
    ):  # they depend on all classes
        assert (gradient[:, 1] > 0).sum() >= 4  # and the student is driven away from it


@pytest.mark.parametrize("term", [L.DKD(), L.NKD()], ids=repr)
def test_a_teacher_that_leaves_only_the_label_stays_finite(term: L.RowTerm) -> None:
    teacher = torch.full((1, C), float("-inf"))
    teacher[0, 2] = 1.0

    total, _, gradient = evaluate(term, logits(1, seed=1), teacher, Target(1, torch.tensor([2])))

    assert torch.isfinite(total)
    assert torch.isfinite(gradient).all()


def test_certain_answers_of_a_binary_teacher_stay_finite() -> None:
    teacher = torch.tensor([[float("inf"), float("-inf"), 0.0, 1.0, 2.0]])

    total, _, gradient = evaluate(L.BinaryKD(), logits(1, seed=1), teacher, Target(1))

    assert torch.isfinite(total)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("term", [L.DIST(), L.KD(standardise=True)], ids=repr)
def test_a_constant_student_gets_no_exploding_gradient(term: L.ArithmeticTerm) -> None:
    # Newly made heads with zero weights answer like this.
    _, _, gradient = evaluate(term, torch.zeros(6, C), logits(seed=2), Target(6))

    assert gradient.abs().max() < 10


def test_weight_penalty_does_not_depend_on_how_a_step_is_cut() -> None:
    weight = torch.randn(3).requires_grad_()
    objective = 0.1 * L.WeightPenalty()
    targets = [Target(1), Target(2, valid=torch.tensor([True, False])), Target(5)]
    counts = tuple(sum(c) for c in zip(*(objective.counts(t) for t in targets), strict=True))

    losses = [objective(Signals(weights=(weight,)), Signals(), t, counts).loss for t in targets]

    torch.testing.assert_close(sum(losses), 0.1 * weight.square().sum())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_counts_are_known_before_any_model_has_run(case: Case) -> None:
    valid = torch.tensor([True, True, False, True, True, True])
    target = Target(6, case.make_labels(), valid, ~valid | torch.tensor([True] + [False] * 5))

    _, count, _ = evaluate(case.term, logits(seed=1), logits(seed=2), target)

    assert int(case.term.count(target)) == int(count) == (1 if case.labels else 5)
