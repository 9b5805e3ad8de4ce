"""Divergences between forward and reverse KL: by two exponents, and by where the error lies."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from potstill.errors import RecipeError
from potstill.functional.adaptive import adaptive_kl, adaptive_kl_gradient
from potstill.functional.alpha_beta import alpha_beta, alpha_beta_gradient
from potstill.losses.checks import check_number
from potstill.losses.divergence import DivergenceTerm


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class AlphaBeta(DivergenceTerm):
    r"""Alpha-beta divergence: how much large errors and confident classes weigh, set apart.

    Formula: $-\frac{T^2}{\alpha \beta} \sum_c [p_c^\alpha q_c^\beta
        - \frac{\alpha}{\alpha + \beta} p_c^{\alpha + \beta}
        - \frac{\beta}{\alpha + \beta} q_c^{\alpha + \beta}]$ with $p = \mathrm{softmax}(z_t / T)$,
        $q = \mathrm{softmax}(z_s / T)$, and its limits where an exponent is 0.
    Shapes: logits `[N, C]` on both sides.
    Paper: Wang et al. 2025, arXiv:2505.04560; the divergence: Cichocki et al. 2011,
        doi:10.3390/e13010134.
    Requires: a teacher that gives logits of the student's classes, or the best of them. No labels.
    Related: (1, 0) is `KD`, (0, 1) is `ReverseKL`, with the same values and gradients. With
        α + β = 1 it is the α-divergence; only there is what K + 1 bins say never more than what all
        classes say. Where α + β is small, the many unlikely classes of a vocabulary weigh much.
    Example: `AlphaBeta(alpha=0.2, beta=0.7) + CrossEntropy()`

    Args:
        alpha: α, 0 or more; a smaller one weighs large errors more.
        beta: β, 0 or more; a larger one weighs classes that the student is sure of more.
        temperature: T, above 0.
    """

    alpha: float = 0.2
    beta: float = 0.7
    temperature: float = 1.0

    def check_options(self) -> None:
        """The exponents are not negative and not both 0."""
        check_number(self, "alpha", self.alpha, at_least=0)
        check_number(self, "beta", self.beta, at_least=0)
        if self.alpha + self.beta == 0:
            raise RecipeError(
                "`AlphaBeta` got alpha=0 and beta=0, where rare classes weigh as much as all "
                "others; give at least one of them above 0, for example alpha=0.2 and beta=0.7."
            )

    def follows_samples(self) -> bool:
        """Only where it is forward KL."""
        return self.alpha == 1 and self.beta == 0

    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """D(p, q)."""
        return alpha_beta(student_log_NC, teacher_log_NC, alpha=self.alpha, beta=self.beta)

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """As in `DivergenceTerm`."""
        return alpha_beta_gradient(student_NC, teacher_NC, alpha=self.alpha, beta=self.beta)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class AdaptiveKL(DivergenceTerm):
    r"""Forward and reverse KL, mixed in each row by where the student is wrong.

    Formula: $T^2 [w\,\mathrm{KL}(p \,\|\, q) + (1 - w)\,\mathrm{KL}(q \,\|\, p)]$ with
        $w = \sum_{c \in H} |p_c - q_c| / \sum_c |p_c - q_c|$, taken as a constant; H are the
        teacher's likeliest classes up to a mass of `head`.
    Shapes: logits `[N, C]` on both sides.
    Paper: Wu et al. 2024, arXiv:2404.02657.
    Requires: a teacher that gives logits of the student's classes, or the best of them. No labels.
    Related: `KD` corrects the head of the distribution first, `ReverseKL` its tail. A teacher that
        kept some classes has its tail as one class of that mass. `JSD` mixes by a fixed β.
    Example: `AdaptiveKL() + CrossEntropy()`

    Args:
        head: the mass of the head, strictly between 0 and 1.
        temperature: T, above 0.
    """

    head: float = 0.5
    temperature: float = 1.0

    def check_options(self) -> None:
        """The head's mass lies strictly between 0 and 1."""
        check_number(self, "head", self.head, above=0, below=1)

    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """W KL(p ‖ q) + (1 - w) KL(q ‖ p)."""
        return adaptive_kl(student_log_NC, teacher_log_NC, head=self.head)

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """As in `DivergenceTerm`."""
        return adaptive_kl_gradient(student_NC, teacher_NC, head=self.head)
