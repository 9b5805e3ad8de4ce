"""Bounded divergences: skew KL both ways, and total variation."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from potstill.functional.closed_forms import (
    skew_kl_gradient,
    skew_reverse_kl_gradient,
    total_variation_gradient,
)
from potstill.functional.divergences import skew_kl, skew_reverse_kl, total_variation
from potstill.losses.checks import check_number
from potstill.losses.divergence import DivergenceTerm


@dataclass(frozen=True, kw_only=True, repr=False)
class _SkewedTerm(DivergenceTerm):
    """What both directions have in common: their options."""

    skew: float = 0.1
    temperature: float = 1.0

    def check_options(self) -> None:
        """The skew lies strictly between 0 and 1."""
        check_number(self, "skew", self.skew, above=0, below=1)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class SkewKL(_SkewedTerm):
    r"""Forward KL to a mixture that has some of the teacher in it: its gradient is bounded.

    Formula: $T^2\,\mathrm{KL}(p \,\|\, \lambda p + (1 - \lambda) q)$ with
        $p = \mathrm{softmax}(z_t / T)$, $q = \mathrm{softmax}(z_s / T)$.
    Shapes: logits `[N, C]` on both sides.
    Paper: Ko et al. 2024, arXiv:2402.03898.
    Requires: a teacher that gives logits of the student's classes, or the best of them. No labels.
    Related: at most T² ln(1 / λ). λ → 0 is `KD`; `JSD` adds the student's own divergence to the
        mixture; `SkewReverseKL` is the other way round.
    Example: `SkewKL(skew=0.1) + CrossEntropy()`

    Args:
        skew: λ, the teacher's share in the mixture, strictly between 0 and 1.
        temperature: T, above 0.
    """

    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """KL(p ‖ λ p + (1 - λ) q)."""
        return skew_kl(student_log_NC, teacher_log_NC, skew=self.skew)

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """As in `DivergenceTerm`."""
        return skew_kl_gradient(student_NC, teacher_NC, skew=self.skew)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class SkewReverseKL(_SkewedTerm):
    r"""Reverse KL to a mixture that has some of the student in it: finite for any teacher.

    Formula: $T^2\,\mathrm{KL}(q \,\|\, (1 - \lambda) p + \lambda q)$ with
        $p = \mathrm{softmax}(z_t / T)$, $q = \mathrm{softmax}(z_s / T)$.
    Shapes: logits `[N, C]` on both sides.
    Paper: Ko et al. 2024, arXiv:2402.03898.
    Requires: a teacher that gives logits of the student's classes, or the best of them. No labels.
    Related: at most T² ln(1 / λ), also where the teacher rules a class out. λ → 0 is `ReverseKL`.
    Example: `SkewReverseKL(skew=0.1) + CrossEntropy()`

    Args:
        skew: λ, the student's share in the mixture, strictly between 0 and 1.
        temperature: T, above 0.
    """

    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """KL(q ‖ (1 - λ) p + λ q)."""
        return skew_reverse_kl(student_log_NC, teacher_log_NC, skew=self.skew)

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """As in `DivergenceTerm`."""
        return skew_reverse_kl_gradient(student_NC, teacher_NC, skew=self.skew)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class TotalVariation(DivergenceTerm):
    r"""Half of the absolute differences of the class probabilities.

    Formula: $T^2 \tfrac{1}{2} \sum_c |p_c - q_c|$ with $p = \mathrm{softmax}(z_t / T)$,
        $q = \mathrm{softmax}(z_s / T)$.
    Shapes: logits `[N, C]` on both sides.
    Paper: Wen et al. 2023, arXiv:2307.15190.
    Requires: a teacher that gives logits of the student's classes, or the best of them. No labels.
    Related: symmetric and at most T². Its gradient has the sign of each error but not its size;
        `ProbabilityMSE` has both.
    Example: `TotalVariation() + CrossEntropy()`

    Args:
        temperature: T, above 0.
    """

    temperature: float = 1.0

    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """Σ |p - q| / 2."""
        return total_variation(student_log_NC, teacher_log_NC)

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """As in `DivergenceTerm`."""
        return total_variation_gradient(student_NC, teacher_NC)
