"""Distillation where a sample may have several labels: each class is a yes or a no."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from potstill.functional.distances import squared_error
from potstill.functional.divergences import binary_kl
from potstill.losses.checks import check_number
from potstill.losses.rows import RowTerm
from potstill.protocols import Needs

_NEEDS = Needs(
    student_logits=True,
    teacher_logits=True,
    raw_teacher_logits=True,
    kinds=frozenset({"multi_label"}),
)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class BinaryKD(RowTerm):
    r"""Distillation of each class on its own, summed over classes.

    Formula: $T^2 \sum_c \mathrm{KL}(\mathrm{Bernoulli}(\sigma(z_{t,c} / T)) \,\|\,
        \mathrm{Bernoulli}(\sigma(z_{s,c} / T)))$.
    Shapes: logits `[N, C]` on both sides.
    Paper: Yang et al. 2023, arXiv:2308.06453.
    Requires: multi-label targets and a teacher with raw logits. No labels.
    Related: `KD` is for one label a sample; `BinaryCrossEntropy` learns from the labels.
    Example: `BinaryKD() + 0.1 * BinaryCrossEntropy()`

    Args:
        temperature: T, above 0.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """Logits on both sides."""
        return _NEEDS

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        divergences_NC = binary_kl(student_NC / self.temperature, teacher_NC / self.temperature)
        return self.temperature**2 * divergences_NC.sum(dim=-1)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class BinaryProbabilityMSE(RowTerm):
    r"""Squared error of the probabilities of each class on its own, summed over classes.

    Formula: $T^2 \sum_c (\sigma(z_{t,c} / T) - \sigma(z_{s,c} / T))^2$.
    Shapes: logits `[N, C]` on both sides.
    Paper: Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    Requires: multi-label targets and a teacher with raw logits. No labels.
    Related: `ProbabilityMSE` is for one label a sample; `BinaryKD` does not fade where the student
        is sure.
    Example: `BinaryProbabilityMSE() + 1e-4 * WeightPenalty()`

    Args:
        temperature: T, above 0.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """Logits on both sides."""
        return _NEEDS

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        student_NC = (student_NC / self.temperature).sigmoid()
        errors_NC = squared_error(student_NC, (teacher_NC / self.temperature).sigmoid())
        return self.temperature**2 * errors_NC.sum(dim=-1)
