"""Terms for regression, where the teacher's values are matched directly.

Shapes: N rows, O outputs; `Signals.logits` holds the values.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import final

from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.distances import huber, squared_error
from potstill.losses.checks import check_choice, check_number
from potstill.losses.rows import RowTerm
from potstill.protocols import Needs


class Follow(StrEnum):
    """Whose values a regression term follows."""

    LABELS = "labels"
    TEACHER = "teacher"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class SquaredError(RowTerm):
    r"""Squared error of the values, summed over outputs.

    Formula: $\sum_o (y_o - s_o)^2$; y are the labels or the teacher's values.
    Shapes: values `[N, O]`; labels `[N, O]`, or `[N]` for one output.
    Paper: Saputra et al. 2019, arXiv:1908.00858.
    Requires: regression targets; labels or a teacher, as chosen by `follow`.
    Related: `Huber` grows only linearly where the teacher or a label is far off.
    Example: `0.7 * SquaredError(follow="teacher") + 0.3 * SquaredError()`

    Args:
        follow: "labels" or "teacher".
    """

    follow: Follow | str = Follow.LABELS

    def __post_init__(self) -> None:
        object.__setattr__(self, "follow", check_choice(self, "follow", self.follow, Follow))

    def needs(self) -> Needs:
        """Values of the student, and of the teacher or the data."""
        return _needs(self.follow)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        wanted_NC = _wanted(self, student_NC, teacher_NC, labels)
        return squared_error(student_NC, wanted_NC).sum(dim=-1)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Huber(RowTerm):
    r"""Squared error near zero and absolute error beyond, summed over outputs.

    Formula: $\sum_o h(y_o - s_o)$ with $h(d) = d^2 / 2$ for $|d| \le \delta$, else
        $\delta (|d| - \delta / 2)$; y are the labels or the teacher's values.
    Shapes: values `[N, O]`; labels `[N, O]`, or `[N]` for one output.
    Paper: Huber 1964, doi:10.1214/aoms/1177703732.
    Requires: regression targets; labels or a teacher, as chosen by `follow`.
    Related: half of `SquaredError` for errors up to δ.
    Example: `Huber(follow="teacher", delta=0.5) + 0.1 * SquaredError()`

    Args:
        delta: δ, above 0, in the unit of the values.
        follow: "labels" or "teacher".
    """

    delta: float = 1.0
    follow: Follow | str = Follow.LABELS

    def __post_init__(self) -> None:
        check_number(self, "delta", self.delta, above=0)
        object.__setattr__(self, "follow", check_choice(self, "follow", self.follow, Follow))

    def needs(self) -> Needs:
        """Values of the student, and of the teacher or the data."""
        return _needs(self.follow)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        wanted_NC = _wanted(self, student_NC, teacher_NC, labels)
        return huber(student_NC, wanted_NC, delta=self.delta).sum(dim=-1)


def _needs(follow: Follow | str) -> Needs:
    from_teacher = follow == Follow.TEACHER
    return Needs(
        student_logits=True,
        teacher_logits=from_teacher,
        raw_teacher_logits=from_teacher,
        labels=not from_teacher,
        kinds=frozenset({"regression"}),
    )


def _wanted(
    term: SquaredError | Huber, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor
) -> Tensor:
    if term.follow == Follow.TEACHER:
        return teacher_NC
    wanted_NC = labels[:, None] if labels.ndim == 1 else labels
    if wanted_NC.shape != student_NC.shape:
        raise HandshakeError(
            f"`{term.name}` needs one label for each of the student's {student_NC.shape[-1]} "
            f"outputs, got labels of shape {list(labels.shape)}; give the student as many outputs."
        )
    return wanted_NC
