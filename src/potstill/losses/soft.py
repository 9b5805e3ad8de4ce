"""Divergences between softened class distributions: KD, WTTM, JSD and reverse KL."""

from dataclasses import dataclass
from enum import StrEnum
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.functional.closed_forms import jsd_gradient, kl_gradient, reverse_kl_gradient
from potstill.functional.divergences import jsd, kl, log_softened, reverse_kl, softened
from potstill.functional.divergences import standardised as standardised_rows
from potstill.losses.checks import check_choice, check_flag, check_number
from potstill.losses.divergence import SOFT, DivergenceTerm
from potstill.losses.rows import ONE_OF_MANY, RowTerm
from potstill.protocols import Needs
from potstill.signals import SparseLogits

_DENSE = Needs(student_logits=True, teacher_logits=True, min_classes=2, kinds=ONE_OF_MANY)
_SHAPED = Needs(student_logits=True, teacher_logits=True, min_classes=3, kinds=ONE_OF_MANY)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class KD(DivergenceTerm):
    r"""Hinton's distillation: the student's softened distribution follows the teacher's.

    Formula: $T^2\,\mathrm{KL}(p \,\|\, q)$ with $p = \mathrm{softmax}(z_t / T)$,
        $q = \mathrm{softmax}(z_s / T)$. With `standardise`, each row of logits is first replaced by
        $(z - \bar z) / (10^{-7} + \mathrm{std}(z))$, on both sides, with the unbiased std.
    Shapes: logits `[N, C]` on both sides.
    Paper: Hinton et al. 2015, arXiv:1503.02531; `standardise`: Sun et al. 2024, arXiv:2403.01427,
        which uses temperature 2 and a weight of 9 beside 0.1 for the labels.
    Requires: a teacher that gives logits of the student's classes; three classes with `standardise`
        (two standardised logits are always the same pair). No labels.
    Related: `ReverseKL` seeks modes; `JSD` is bounded; a hot `KD` tends to `LogitMSE` of centred
        logits divided by 2 C.
    Example: `0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`

    Args:
        temperature: T, above 0.
        standardise: compare the shape of the logits and leave out their scale.
    """

    temperature: float = 4.0
    standardise: bool = False

    def check_options(self) -> None:
        """Whether to standardise is true or false."""
        check_flag(self, "standardise", self.standardise)

    def needs(self) -> Needs:
        """Logits on both sides."""
        return _SHAPED if self.standardise else SOFT

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        if self.standardise:
            student_NC, teacher_NC = standardised_rows(student_NC), standardised_rows(teacher_NC)
        student_log_NC = log_softened(student_NC, self.temperature)
        divergence_N = kl(student_log_NC, softened(teacher_NC, self.temperature))
        return self.temperature**2 * divergence_N

    def row_gradients(
        self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in `RowTerm`."""
        if self.standardise:
            return RowTerm.row_gradients(self, student_NC, teacher_NC, labels)
        return super().row_gradients(student_NC, teacher_NC, labels)

    def sparse_row_losses(
        self, student_NC: Tensor, teacher: SparseLogits, labels: Tensor
    ) -> Tensor:
        """As in `RowTerm`."""
        if self.standardise:  # the mean and the spread are over all classes
            return RowTerm.sparse_row_losses(self, student_NC, teacher, labels)
        return super().sparse_row_losses(student_NC, teacher, labels)

    def sparse_row_gradients(
        self, student_NC: Tensor, teacher: SparseLogits, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in `RowTerm`."""
        if self.standardise:
            return RowTerm.sparse_row_gradients(self, student_NC, teacher, labels)
        return super().sparse_row_gradients(student_NC, teacher, labels)

    def follows_samples(self) -> bool:
        """The gradient q - t is right on average."""
        return True

    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """KL(p ‖ q)."""
        return kl(student_log_NC, teacher_log_NC.exp())

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """As in `DivergenceTerm`."""
        return kl_gradient(student_NC, teacher_NC)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class WTTM(RowTerm):
    r"""Weighted transformed teacher matching: soften only the teacher, weigh unsure rows more.

    Formula: $u\,\mathrm{KL}(p^\gamma / u \,\|\, q)$ with $u = \sum_c p_c^\gamma$; p and q are the
        softmax of the logits at temperature 1.
    Shapes: logits `[N, C]` on both sides.
    Paper: Zheng and Yang 2024, arXiv:2402.11148.
    Requires: a teacher that gives logits of the student's classes. No labels.
    Related: $p^\gamma / u$ is the softmax at temperature 1 / γ, but there is no T²: the student is
        not softened. `KD` softens both sides.
    Example: `WTTM() + CrossEntropy()`

    Args:
        gamma: γ, above 0; 1 leaves the teacher as it is (then u is 1).
    """

    gamma: float = 0.2

    def __post_init__(self) -> None:
        check_number(self, "gamma", self.gamma, above=0)

    def needs(self) -> Needs:
        """Logits on both sides."""
        return _DENSE

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        power_NC = self.gamma * F.log_softmax(teacher_NC, dim=-1)
        divergence_N = kl(F.log_softmax(student_NC, dim=-1), power_NC.softmax(dim=-1))
        return torch.logsumexp(power_NC, dim=-1).exp() * divergence_N


class Scale(StrEnum):
    """What the generalised Jensen-Shannon divergence is multiplied with."""

    PLAIN = "plain"
    EVEN = "even"
    TRL = "trl"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class JSD(DivergenceTerm):
    r"""Generalised Jensen-Shannon divergence: bounded, between forward and reverse KL.

    Formula: $T^2 s [\beta\,\mathrm{KL}(p \,\|\, m) + (1 - \beta)\,\mathrm{KL}(q \,\|\, m)]$ with
        the mixture $m = \beta p + (1 - \beta) q$ and the scale $s$: 1, or with `scale="even"`
        $1 / (\beta (1 - \beta))$.
    Shapes: logits `[N, C]` on both sides.
    Paper: Agarwal et al. 2023, arXiv:2306.13649.
    Requires: a teacher that gives logits of the student's classes. No labels.
    Related: plain, β = 0.5 is the textbook's divergence, at most ln 2; towards 0 it approaches
        β `KD`, towards 1 it approaches (1 - β) `ReverseKL`, so it fades with β (1 - β), and the
        ends, where it would be 0 and teach nothing, are refused. With `scale="even"` it goes from
        `KD` at 0 to `ReverseKL` at 1 without a jump, four times the textbook's at 0.5, and one
        weight suits all β. `scale="trl"` is the plain one with `KD` and `ReverseKL` put in at the
        ends, as TRL has it: there the scale jumps.
    Example: `JSD(beta=0.5) + CrossEntropy()`

    Args:
        beta: the teacher's share in the mixture; strictly between 0 and 1 where the scale is plain,
            from 0 to 1 otherwise.
        temperature: T, above 0.
        scale: "plain", "even" or "trl".
    """

    beta: float = 0.5
    temperature: float = 1.0
    scale: str = "plain"

    def check_options(self) -> None:
        """β lies between the ends, or at one of them if the scale allows it."""
        scale = check_choice(self, "scale", self.scale, Scale)
        object.__setattr__(self, "scale", scale)
        if scale is Scale.PLAIN:
            check_number(self, "beta", self.beta, above=0, below=1)
        else:
            check_number(self, "beta", self.beta, at_least=0, at_most=1)

    def follows_samples(self) -> bool:
        """Only where it is forward KL."""
        return self.beta == 0

    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """β KL(p ‖ m) + (1 - β) KL(q ‖ m), scaled."""
        if self.beta == 0:
            return kl(student_log_NC, teacher_log_NC.exp())
        if self.beta == 1:
            return reverse_kl(student_log_NC, teacher_log_NC)
        return self._factor() * jsd(student_log_NC, teacher_log_NC, beta=self.beta)

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """As in `DivergenceTerm`."""
        if self.beta == 0:
            return kl_gradient(student_NC, teacher_NC)
        if self.beta == 1:
            return reverse_kl_gradient(student_NC, teacher_NC)
        losses_N, gradient_NC = jsd_gradient(student_NC, teacher_NC, beta=self.beta)
        return losses_N * self._factor(), gradient_NC.mul_(self._factor())

    def _factor(self) -> float:
        return 1 / (self.beta * (1 - self.beta)) if self.scale == Scale.EVEN else 1


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class ReverseKL(DivergenceTerm):
    r"""Reverse KL: the student avoids what the teacher finds unlikely, and may leave modes out.

    Formula: $T^2\,\mathrm{KL}(q \,\|\, p)$ with $p = \mathrm{softmax}(z_t / T)$,
        $q = \mathrm{softmax}(z_s / T)$. Where the teacher rules a class out (a logit of -inf), its
        log-probability counts as -87.3, the smallest of float32, so that the value stays finite.
    Shapes: logits `[N, C]` on both sides.
    Paper: Gu et al. 2023, arXiv:2306.08543.
    Requires: a teacher that gives logits of the student's classes. No labels.
    Related: `KD` covers all modes; `JSD` lies between.
    Example: `ReverseKL() + CrossEntropy()`

    Args:
        temperature: T, above 0.
    """

    temperature: float = 1.0

    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """KL(q ‖ p)."""
        return reverse_kl(student_log_NC, teacher_log_NC)

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """As in `DivergenceTerm`."""
        return reverse_kl_gradient(student_NC, teacher_NC)
