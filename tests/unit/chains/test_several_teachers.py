"""Unions by class, weights by sample, and teachers that samples name."""

import math

import pytest
import torch

from potstill.errors import HandshakeError
from potstill.losses import KD, CrossEntropy, MembersKD
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, Logits, MemberLogits, Signals, Target
from potstill.tasks import Classification
from potstill.teachers import ClassUnion, Ensemble, FunctionTeacher, Routed
from potstill.train.handshake import shake_hands

LEFT, RIGHT = [0, 1, 2], [2, 4, 3]  # overlapping, and not in order


def _columns(start: int, count: int) -> FunctionTeacher:
    return FunctionTeacher(
        lambda inputs: inputs[:, start : start + count] * 3, fingerprint=f"{start} {count}"
    )


def _union(**options) -> ClassUnion:
    return ClassUnion([_columns(0, 3), _columns(3, 3)], [LEFT, RIGHT], num_classes=5, **options)


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randn(7, 6, generator=torch.Generator().manual_seed(0))


def _shares(share: str, z: list[list[float]]) -> list[float]:
    """Of one sample, as in the formula; the teachers know three classes each."""
    each = []
    for logits in z:
        total = sum(math.exp(v) for v in logits)
        p = [math.exp(v) / total for v in logits]
        unsure = -sum(v * math.log(v) for v in p) / math.log(len(p))
        each.append({"fixed": 1.0, "confidence": 1 - unsure, "energy": total}[share])
    return [v / sum(each) for v in each]


@pytest.mark.parametrize("share", ["fixed", "confidence", "energy"])
def test_a_union_answers_as_its_formula_says(inputs, share) -> None:
    said = _union(share=share).signals(Batch(inputs))
    assert isinstance(said.logits, Logits)

    for row, answer in zip(inputs.tolist(), said.logits.values_NC.exp().tolist(), strict=True):
        z = [[3 * v for v in row[:3]], [3 * v for v in row[3:]]]
        expected = [0.0] * 5
        for classes, logits, part in zip((LEFT, RIGHT), z, _shares(share, z), strict=True):
            total = sum(math.exp(v) for v in logits)
            for c, v in zip(classes, logits, strict=True):
                expected[c] += part * math.exp(v) / total
        assert answer == pytest.approx(expected, rel=1e-4)
        assert sum(answer) == pytest.approx(1, rel=1e-5)


def test_disjoint_classes_by_energy_are_the_logits_side_by_side(inputs) -> None:
    union = ClassUnion(
        [_columns(0, 2), _columns(2, 4)], [[1, 0], [2, 3, 4, 5]], num_classes=6, weights=[1, 1],
        share="energy",
    )  # fmt: skip
    said = union.signals(Batch(inputs)).logits
    assert isinstance(said, Logits)

    stacked = (inputs * 3)[:, [1, 0, 2, 3, 4, 5]].log_softmax(-1)
    torch.testing.assert_close(said.values_NC, stacked, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([[0, 1, 2], [2, 3]], "answers with 3"),
        ([[0, 1, 2], [2, 3, 3]], "each once"),
        ([[0, 1, 2], [1, 2, 0]], "No teacher knows the classes"),
        ([[0, 1, 2]], "lists of classes"),
    ],
)
def test_wrong_classes_are_refused_in_a_sentence(inputs, classes, said) -> None:
    highest = max(c for own in classes for c in own)
    number = 5 if said.startswith("No") else highest + 1
    with pytest.raises(HandshakeError, match=said):
        ClassUnion([_columns(0, 3), _columns(3, 3)], classes, num_classes=number).signals(
            Batch(inputs)
        )


# The term


def _members() -> tuple[MemberLogits, ...]:
    generator = torch.Generator().manual_seed(3)
    return (
        MemberLogits(torch.randn(6, 3, generator=generator) * 2, torch.tensor(LEFT), 0.25),
        MemberLogits(torch.randn(6, 3, generator=generator) * 2, torch.tensor(RIGHT), 0.75),
    )


def _softmax(z: list[float], t: float = 1) -> list[float]:
    total = sum(math.exp(v / t) for v in z)
    return [math.exp(v / t) / total for v in z]


def _oracle(weigh: str, student, members, labels: list[int | None], t: float) -> float:
    """The formula, row by row."""
    total = 0.0
    for row, label in enumerate(labels):
        answers = [m.values_NM[row].tolist() for m in members]
        classes = [m.classes_M.tolist() for m in members]
        sure = []
        for m, z in zip(members, answers, strict=True):
            p = _softmax(z)
            sure.append(m.weight * (1 + sum(v * math.log(v) for v in p) / math.log(len(p))))
        weights = [s / sum(sure) for s in sure]
        if weigh == "fixed":
            weights = [m.weight for m in members]
        if weigh == "labels" and label is not None:
            wrong = {
                k: -math.log(_softmax(z)[own.index(label)])
                for k, (z, own) in enumerate(zip(answers, classes, strict=True))
                if label in own
            }
            blame = sum(math.exp(v) for v in wrong.values())
            weights = [0.0, 0.0]
            for k, value in wrong.items():
                several = len(wrong) > 1
                weights[k] = (1 - math.exp(value) / blame) / (len(wrong) - 1) if several else 1.0
        for w, z, own in zip(weights, answers, classes, strict=True):
            p, q = _softmax(z, t), _softmax(student[row, own].tolist(), t)
            total += w * t * t * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total


@pytest.mark.parametrize("weigh", ["labels", "confidence", "fixed"])
def test_the_term_has_the_value_and_gradient_of_its_formula(weigh) -> None:
    members = _members()
    student = torch.randn(6, 5, generator=torch.Generator().manual_seed(9)).double()
    student.requires_grad_()
    labels = torch.tensor([0, 2, 4, 3, 2, 0])
    labelled = torch.tensor([True, True, True, True, False, True])
    target = Target(6, labels=labels, labelled=labelled)
    known = [int(c) if ok else None for c, ok in zip(labels, labelled, strict=True)]

    partial = MembersKD(temperature=2, weigh=weigh)(
        Signals(logits=Logits(student)), Signals(members=members), target
    )
    (gradient,) = torch.autograd.grad(partial.total, student)

    assert float(partial.total.detach()) == pytest.approx(
        _oracle(weigh, student, members, known, 2), rel=1e-5
    )
    assert partial.count == 6
    moved = torch.zeros_like(student)
    for row in range(6):
        for column in range(5):
            values = []
            for step in (1e-4, -1e-4):
                near = student.detach().clone()
                near[row, column] += step
                values.append(_oracle(weigh, near, members, known, 2))
            moved[row, column] = (values[0] - values[1]) / 2e-4
    torch.testing.assert_close(gradient, moved, rtol=1e-3, atol=1e-5)


def test_one_teacher_of_all_classes_is_plain_distillation() -> None:
    generator = torch.Generator().manual_seed(1)
    student, taught = (torch.randn(5, 4, generator=generator) for _ in range(2))
    target = Target(5, labels=torch.tensor([0, 1, 2, 3, 0]))
    said = Signals(logits=Logits(taught), members=(MemberLogits(taught),))

    mine = MembersKD(temperature=4)(Signals(logits=Logits(student)), said, target)
    plain = KD(temperature=4)(Signals(logits=Logits(student)), said, target)

    torch.testing.assert_close(mine.total, plain.total)


def test_splitting_a_batch_and_masking_rows_change_nothing() -> None:
    members, student = _members(), torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 2, 4, 3, 2, 0])
    term = MembersKD()

    def total(rows: slice | torch.Tensor, valid=None) -> torch.Tensor:
        parts = tuple(MemberLogits(m.values_NM[rows], m.classes_M, m.weight) for m in members)
        target = Target(len(labels[rows]), labels=labels[rows], valid=valid)
        return term(Signals(logits=Logits(student[rows])), Signals(members=parts), target).total

    whole = total(slice(None))
    torch.testing.assert_close(total(slice(0, 2)) + total(slice(2, 6)), whole)
    torch.testing.assert_close(total(torch.tensor([5, 3, 1, 0, 2, 4])), whole)
    kept = torch.tensor([True, True, False, False, True, True])
    torch.testing.assert_close(total(slice(None), kept), total(kept.nonzero()[:, 0]))


def test_one_teacher_alone_is_refused_before_training(inputs) -> None:
    batch = Batch(inputs, torch.tensor([0, 1, 2, 0, 1, 2, 0]))
    student = torch.nn.Linear(6, 3)
    objective = MembersKD() + CrossEntropy()
    with pytest.raises(HandshakeError, match="several teachers"):
        shake_hands(
            student, _columns(0, 3), objective=objective, task=Classification(), batch=batch
        )
    both = Ensemble([_columns(0, 3), _columns(3, 3)])
    shake_hands(student, both, objective=objective, task=Classification(), batch=batch)


# Routing


def test_each_sample_is_answered_by_the_teacher_that_it_names(inputs) -> None:
    asked: list[int] = []

    def counting(start: int) -> FunctionTeacher:
        def answer(rows: torch.Tensor) -> torch.Tensor:
            asked.append(len(rows))
            return rows[:, start : start + 3]

        return FunctionTeacher(answer, fingerprint=str(start))

    ids = torch.tensor([4, 0, 1, 3, 2, 5, 6])
    routed = Routed([counting(0), counting(3)], lambda batch: batch.ids % 2, key="odd")
    said = routed.signals(Batch(inputs, ids=ids)).logits
    assert isinstance(said, Logits)

    for row, name in enumerate(ids.tolist()):
        start = 3 * (name % 2)
        assert torch.equal(said.values_NC[row], inputs[row, start : start + 3])
    assert asked == [4, 3]
    assert routed.offers().logits is LogitKind.RAW
    with pytest.raises(HandshakeError, match="0 to 1"):
        Routed([counting(0), counting(3)], lambda batch: batch.ids, key="all").signals(
            Batch(inputs, ids=ids)
        )


class Twice(Teacher):
    """Gives some columns of each sample, as two rows of it."""

    def __init__(self, start: int) -> None:
        self._start = start

    def offers(self) -> Offers:
        return Offers(num_classes=3)

    def fingerprint(self) -> str:
        return str(self._start)

    def signals(self, batch: Batch, *, layers=()) -> Signals:
        rows = batch.inputs[:, self._start : self._start + 3]
        return Signals(logits=Logits(rows.repeat_interleave(2, 0)))


def test_samples_of_several_rows_take_all_of_them_along(inputs) -> None:
    routed = Routed(
        [Twice(0), Twice(3)],
        lambda batch: (batch.inputs[:, 0] > 0).long(),
        key="sign",
        rows=lambda batch: torch.arange(len(batch)).repeat_interleave(2),
    )
    said = routed.signals(Batch(inputs)).logits
    assert isinstance(said, Logits)
    for row in range(14):
        sample = inputs[row // 2]
        start = 3 if sample[0] > 0 else 0
        assert torch.equal(said.values_NC[row], sample[start : start + 3])
