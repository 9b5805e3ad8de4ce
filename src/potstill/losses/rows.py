"""Row-wise terms on logits: reading the rows, masking them, summing them up.

Shapes: N rows, C classes (or outputs). A subclass of `RowTerm` writes one formula and nothing else.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.reductions import keep_rows, sum_rows, upcast
from potstill.losses.others import ForeignRows, first_rows, foreign_rows
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import (
    AnyLogits,
    ForeignLogits,
    LazyLogits,
    Logits,
    Partial,
    Signals,
    SparseLogits,
    Target,
)

ONE_OF_MANY = frozenset({"single_label", "tokens"})  # kinds of targets that a softmax fits
ABSENT = torch.empty(0)  # stands for what a term did not ask for


AnyRows = Tensor | SparseLogits | ForeignRows


class Rows(NamedTuple):
    """What a row-wise term works on; `ABSENT` where the term did not ask.

    Rows that do not count hold zeros; `mask_N` is `None` when all count.
    """

    student_NC: Tensor
    teacher: AnyRows
    labels: Tensor
    mask_N: Tensor | None


@dataclass(frozen=True, repr=False, eq=False)
class RowTerm(ArithmeticTerm):
    """A term whose value is a sum over rows that do not know of each other.

    A subclass gives `row_losses`. Logits that are not computed yet (`LazyLogits`) are then read in
    chunks of rows, with the gradient taken chunk by chunk; `row_gradients` may say it in closed
    form. A term that can do with a teacher's kept classes says so in its needs
    (`sparse_teacher`) and gives `sparse_row_losses`; see `DivergenceTerm`, which has all of it.
    """

    @abstractmethod
    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, `[N]`, summed over classes, with T² where a temperature is used.

        Args:
            student_NC: logits, float32 or float64, with gradient.
            teacher_NC: logits, constant; `[0]` unless `needs` asks for them.
            labels: as in `Target`; `[0]` unless `needs` asks for them.
        """

    def row_gradients(
        self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of each row, `[N]`, and its gradient by that row's logits, `[N, C]`.

        Equivalent to autograd through `row_losses`. The arguments are left as they are; what is
        returned is the caller's.
        """
        return _by_autograd(lambda leaf: self.row_losses(leaf, teacher_NC, labels), student_NC)

    def sparse_row_losses(
        self, student_NC: Tensor, teacher: SparseLogits, labels: Tensor
    ) -> Tensor:
        """As `row_losses`, with the classes that the teacher kept.

        Raises:
            HandshakeError: the term needs all classes, or another temperature.
        """
        raise HandshakeError(
            f"`{self.name}` needs the teacher's logits of all {teacher.num_classes} classes and "
            f"got the best {teacher.ids_NK.shape[-1]}; give a teacher with dense logits."
        )

    def sparse_row_gradients(
        self, student_NC: Tensor, teacher: SparseLogits, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `row_gradients`, with the classes that the teacher kept."""
        return _by_autograd(lambda leaf: self.sparse_row_losses(leaf, teacher, labels), student_NC)

    def foreign_row_losses(self, student_NC: Tensor, teacher: ForeignRows) -> Tensor:
        """As `row_losses`, with a teacher that has other tokens.

        Raises:
            HandshakeError: the term needs the teacher to have the student's tokens.
        """
        raise HandshakeError(
            f"`{self.name}` needs a teacher with the student's tokens and got one with others; "
            "use cross_tokenizer_kd or uld."
        )

    def beside(self, student: AnyLogits, teacher: AnyLogits | None, target: Target) -> "RowTerm":
        """The same term, knowing what its rows must know of each other; most need nothing."""
        return self

    def at(self, rows: slice | Tensor) -> "RowTerm":
        """What `beside` gave, for some of the rows."""
        return self

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum of the rows that count, and their number."""
        if isinstance(student.logits, LazyLogits):
            from potstill.losses.lazy import lazy_total  # which reads rows of row-wise terms

            return lazy_total(self, student.logits, teacher, target)
        if self.needs().labels and target.labels is None:
            return nothing_labelled(self, student)
        rows = read_rows(self, student, teacher, target)
        assert student.logits is not None
        term = self.beside(student.logits, teacher.logits, target)
        losses_N = losses_of_rows(term, rows.student_NC, rows.teacher, rows.labels)
        if target.weights is not None:
            losses_N = losses_N * target.weights
        return Partial(sum_rows(losses_N, rows.mask_N), self.count(target))


def losses_of_rows(term: RowTerm, student_NC: Tensor, teacher: AnyRows, labels: Tensor) -> Tensor:
    """`row_losses` or another form of it, whichever suits the teacher's rows."""
    if isinstance(teacher, ForeignRows):
        return term.foreign_row_losses(student_NC, teacher)
    if isinstance(teacher, SparseLogits):
        return term.sparse_row_losses(student_NC, teacher, labels)
    return term.row_losses(student_NC, teacher, labels)


def gradients_of_rows(
    term: RowTerm, student_NC: Tensor, teacher: AnyRows, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """`row_gradients` or another form of it, whichever suits the teacher's rows."""
    if isinstance(teacher, ForeignRows):
        return _by_autograd(lambda leaf: term.foreign_row_losses(leaf, teacher), student_NC)
    if isinstance(teacher, SparseLogits):
        return term.sparse_row_gradients(student_NC, teacher, labels)
    return term.row_gradients(student_NC, teacher, labels)


def _by_autograd(
    losses_of: Callable[[Tensor], Tensor], student_NC: Tensor
) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf_NC = student_NC.detach().requires_grad_()
        losses_N = losses_of(leaf_NC)
        (gradient_NC,) = torch.autograd.grad(losses_N.sum(), leaf_NC)
    return losses_N.detach(), gradient_NC.contiguous()


def nothing_labelled(term: ArithmeticTerm, student: Signals) -> Partial:
    """A zero that hangs on the student's graph, for a batch without any label."""
    return Partial(_dense(term, student.logits, of="student")[:0].sum(), 0)


def read_rows(term: ArithmeticTerm, student: Signals, teacher: Signals, target: Target) -> Rows:
    """The rows that a term asked for, in float32 or better, harmless where masked.

    Raises:
        HandshakeError: something is missing or the shapes do not belong together.
    """
    needs = term.needs()
    mask_N = target.mask(labels=needs.labelled_rows)
    check_rows(term, student.logits, teacher.logits, target)
    student_NC = upcast(_dense(term, student.logits, of="student"))
    teacher_rows: AnyRows = ABSENT
    if needs.teacher_logits:
        teacher_rows = _teacher_rows(term, teacher.logits, mask_N)
    labels = ABSENT
    if needs.labels:
        assert target.labels is not None
        labels = keep_rows(target.labels, mask_N)
    return Rows(keep_rows(student_NC, mask_N), teacher_rows, labels, mask_N)


def check_rows(
    term: ArithmeticTerm, student: AnyLogits | None, teacher: AnyLogits | None, target: Target
) -> None:
    """Refuse what a term cannot work on, before anything is computed.

    Raises:
        HandshakeError: something is missing or the shapes do not belong together.
    """
    needs = term.needs()
    student_shape, teacher_shape = _shape(term, student, of="student"), None
    if needs.teacher_logits:
        teacher_shape = _shape(term, teacher, of="teacher")
    _check_shapes(term, needs, target, student_shape, teacher_shape)
    if needs.labels:
        assert target.labels is not None
        _check_labels(term, needs, target.labels)


def _teacher_rows(term: ArithmeticTerm, logits: AnyLogits | None, mask_N: Tensor | None) -> AnyRows:
    if isinstance(logits, ForeignLogits) and isinstance(term, RowTerm):
        every_N = torch.arange(logits.num_rows, device=logits.spans.student_rows_SA.device)
        return foreign_rows(logits, first_rows(logits), every_N)
    if isinstance(logits, SparseLogits) and isinstance(term, RowTerm):
        return replace(
            logits,
            ids_NK=keep_rows(logits.ids_NK, mask_N),
            logprobs_NK=keep_rows(logits.logprobs_NK.detach(), mask_N),
            tail_N=keep_rows(logits.tail_N.detach(), mask_N),
        )
    return keep_rows(upcast(_dense(term, logits, of="teacher").detach()), mask_N)


def _shape(term: ArithmeticTerm, logits: AnyLogits | None, *, of: str) -> tuple[int, ...]:
    match logits:
        case LazyLogits():
            return (*logits.hidden_ND.shape[:-1], logits.num_classes)
        case SparseLogits() if of == "teacher":
            return (*logits.ids_NK.shape[:-1], logits.num_classes)
        case ForeignLogits():
            return logits.num_rows, logits.num_classes
        case Logits():
            return tuple(logits.values_NC.shape)
    return tuple(_dense(term, logits, of=of).shape)


def _dense(term: ArithmeticTerm, logits: AnyLogits | None, *, of: str) -> Tensor:
    if logits is None:
        raise HandshakeError(
            f"`{term.name}` needs the {of}'s logits and got none; "
            "use a model that gives them, or a term on features."
        )
    if isinstance(logits, SparseLogits):
        raise HandshakeError(
            f"`{term.name}` needs the {of}'s logits of all {logits.num_classes} classes and got "
            f"the best {logits.ids_NK.shape[-1]}; give a {of} with dense logits."
        )
    if isinstance(logits, ForeignLogits):
        raise HandshakeError(
            f"`{term.name}` needs a {of} with the student's tokens and got one with others; use "
            "cross_tokenizer_kd or uld."
        )
    return logits.dense()


def _check_shapes(
    term: ArithmeticTerm,
    needs: Needs,
    target: Target,
    shape: tuple[int, ...],
    teacher_shape: tuple[int, ...] | None,
) -> None:
    if len(shape) != 2 or shape[0] != target.num_rows:
        raise HandshakeError(
            f"`{term.name}` needs logits of shape [{target.num_rows}, classes], "
            f"got {list(shape)} from the student; let the task flatten them to rows."
        )
    if teacher_shape is not None and teacher_shape != shape:
        raise HandshakeError(
            f"`{term.name}` needs equal shapes, got {list(shape)} from the student and "
            f"{list(teacher_shape)} from the teacher; map the teacher's classes to the "
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
