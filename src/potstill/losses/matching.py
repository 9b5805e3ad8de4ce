"""Squared errors between class probabilities or logits of student and teacher."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from potstill.functional.distances import squared_error
from potstill.functional.divergences import softened
from potstill.losses.checks import check_number
from potstill.losses.rows import ONE_OF_MANY, RowTerm
from potstill.protocols import Needs


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class ProbabilityMSE(RowTerm):
    r"""Squared error of the class probabilities, summed over classes.

    Formula: $T^2 \sum_c (p_c - q_c)^2$ with $p = \mathrm{softmax}(z_t / T)$,
        $q = \mathrm{softmax}(z_s / T)$.
    Shapes: logits `[N, C]` on both sides.
    Paper: Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    Requires: a teacher that gives logits of the student's classes. No labels.
    Related: bounded (at most 2 T²), so a wrong teacher hurts less than with `KD`; its gradient
        fades where the student is sure. With `WeightPenalty` it is the regularised least squares
        of the textbooks.
    Example: `ProbabilityMSE() + 1e-4 * WeightPenalty()`

    Args:
        temperature: T, above 0.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """Logits on both sides."""
        return Needs(student_logits=True, teacher_logits=True, min_classes=2, kinds=ONE_OF_MANY)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        student_NC = softened(student_NC, self.temperature)
        errors_NC = squared_error(student_NC, softened(teacher_NC, self.temperature))
        return self.temperature**2 * errors_NC.sum(dim=-1)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class LogitMSE(RowTerm):
    r"""Squared error of the logits, summed over classes.

    Formula: $\sum_c (z_{t,c} - z_{s,c})^2$. Code that averages over classes has a value C times
        smaller: divide the weight by C to reproduce it.
    Shapes: logits `[N, C]` on both sides.
    Paper: Ba and Caruana 2013, arXiv:1312.6184.
    Requires: a teacher that gives raw, finite logits (log-probabilities have lost the offset of
        each row). No labels.
    Related: `KD` at a high temperature compares logits too, without their offset.
    Example: `0.01 * LogitMSE() + CrossEntropy()`
    """

    def needs(self) -> Needs:
        """Raw logits on both sides, of one label a sample or of several."""
        return Needs(
            student_logits=True,
            teacher_logits=True,
            raw_teacher_logits=True,
            kinds=ONE_OF_MANY | {"multi_label"},
        )

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        return squared_error(student_NC, teacher_NC).sum(dim=-1)
