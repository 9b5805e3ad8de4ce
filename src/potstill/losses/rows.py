"""Row-wise terms on logits: reading the rows, masking them, summing them up.

Shapes: N rows, C classes (or outputs). A subclass of `RowTerm` writes one formula and nothing else.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.reductions import keep_rows, sum_rows, upcast
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import AnyLogits, Partial, Signals, SparseLogits, Target

ONE_OF_MANY = frozenset({"single_label", "tokens"})  # kinds of targets that a softmax fits
ABSENT = torch.empty(0)  # stands for what a term did not ask for


class Rows(NamedTuple):
    """What a row-wise term works on; `ABSENT` where the term did not ask.

    Rows that do not count hold zeros; `mask_N` is `None` when all count.
    """

    student_NC: Tensor
    teacher_NC: Tensor
    labels: Tensor
    mask_N: Tensor | None


@dataclass(frozen=True, repr=False, eq=False)
class RowTerm(ArithmeticTerm):
    """A term whose value is a sum over rows that do not know of each other."""

    @abstractmethod
    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, `[N]`, summed over classes, with T² where a temperature is used.

        Args:
            student_NC: logits, float32 or float64, with gradient.
            teacher_NC: logits, constant; `[0]` unless `needs` asks for them.
            labels: as in `Target`; `[0]` unless `needs` asks for them.
        """

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum of the rows that count, and their number."""
        if self.needs().labels and target.labels is None:
            return nothing_labelled(self, student)
        rows = read_rows(self, student, teacher, target)
        losses_N = self.row_losses(rows.student_NC, rows.teacher_NC, rows.labels)
        return Partial(sum_rows(losses_N, rows.mask_N), self.count(target))


def nothing_labelled(term: ArithmeticTerm, student: Signals) -> Partial:
    """A zero that hangs on the student's graph, for a batch without any label."""
    return Partial(_dense(term, student.logits, of="student")[:0].sum(), 0)


def read_rows(term: ArithmeticTerm, student: Signals, teacher: Signals, target: Target) -> Rows:
    """The rows that a term asked for: dense, in float32 or better, harmless where masked.

    Raises:
        HandshakeError: something is missing or the shapes do not belong together.
    """
    needs = term.needs()
    mask_N = target.mask(labels=needs.labels)
    student_NC = upcast(_dense(term, student.logits, of="student"))
    teacher_NC = ABSENT
    if needs.teacher_logits:
        teacher_NC = upcast(_dense(term, teacher.logits, of="teacher").detach())
        teacher_NC = keep_rows(teacher_NC, mask_N)
    labels = ABSENT
    if needs.labels:
        assert target.labels is not None
        labels = keep_rows(target.labels, mask_N)
    _check_shapes(term, needs, target, student_NC, teacher_NC)
    _check_labels(term, needs, labels)
    return Rows(keep_rows(student_NC, mask_N), teacher_NC, labels, mask_N)


def _dense(term: ArithmeticTerm, logits: AnyLogits | None, *, of: str) -> Tensor:
    if logits is None:
        raise HandshakeError(
            f"`{term.name}` needs the {of}'s logits and got none; "
            "use a model that gives them, or a term on features."
        )
    if isinstance(logits, SparseLogits):
        raise HandshakeError(
            f"`{term.name}` needs the {of}'s logits of all {logits.num_classes} classes and got "
            f"the best {logits.ids_NK.shape[-1]}; give a teacher with dense logits."
        )
    return logits.dense()


def _check_shapes(
    term: ArithmeticTerm, needs: Needs, target: Target, student_NC: Tensor, teacher_NC: Tensor
) -> None:
    shape = tuple(student_NC.shape)
    if len(shape) != 2 or shape[0] != target.num_rows:
        raise HandshakeError(
            f"`{term.name}` needs logits of shape [{target.num_rows}, classes], "
            f"got {list(shape)} from the student; let the task flatten them to rows."
        )
    if needs.teacher_logits and teacher_NC.shape != student_NC.shape:
        raise HandshakeError(
            f"`{term.name}` needs equal shapes, got {list(shape)} from the student and "
            f"{list(teacher_NC.shape)} from the teacher; map the teacher's classes to the "
            "student's, or match features instead."
        )
    if shape[1] < needs.min_classes:
        raise HandshakeError(
            f"`{term.name}` needs at least {needs.min_classes} classes and got {shape[1]}: with "
            "fewer its gradient is zero; use `kd` for two classes, a binary term for one."
        )


def _check_labels(term: ArithmeticTerm, needs: Needs, labels: Tensor) -> None:
    if needs.class_labels and (labels.ndim != 1 or labels.is_floating_point()):
        raise HandshakeError(
            f"`{term.name}` needs one class a row as whole numbers, got {labels.dtype} labels of "
            f"shape {list(labels.shape)}; use `kd` and `cross_entropy` with soft or mixed labels."
        )
