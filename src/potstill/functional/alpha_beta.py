"""The alpha-beta divergence: a family with forward and reverse KL at two of its corners.

Shapes: N rows, C classes. Student arguments carry gradient, teacher arguments are constants.

With $P_a = (p^a - q^a) / a$ (its limit log p - log q at a = 0) the divergence of Cichocki et al.
2011, doi:10.3390/e13010134, is

    D(p, q) = Σ (p^α P_β - q^β P_α) / (α + β),    dD / d log q = -q^β P_α

which divides by neither α nor β, so that nothing is lost near the corners.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.functional.divergences import LOG_TINY


def alpha_beta(
    student_log_NC: Tensor, teacher_log_NC: Tensor, *, alpha: float, beta: float
) -> Tensor:
    """D(p, q) of each row, `[N]`; (1, 0) is KL(p ‖ q) and (0, 1) is KL(q ‖ p).

    Args:
        student_log_NC: log q.
        teacher_log_NC: log p; -inf is allowed. With α = 0, where the value would then be infinite,
            log p is at least -87.3, as in `reverse_kl`.
        alpha: exponent of the teacher, 0 or more.
        beta: exponent of the student, 0 or more; not both are 0.
    """
    losses_N, slope_NC = _value_and_slope(
        student_log_NC.detach(), teacher_log_NC, alpha=alpha, beta=beta
    )
    carrier_N = (student_log_NC * slope_NC).sum(dim=-1)
    return losses_N + (carrier_N - carrier_N.detach())


def alpha_beta_gradient(
    student_NC: Tensor, teacher_NC: Tensor, *, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    """Values `[N]` and gradients `[N, C]` by the student's logits, as in `closed_forms`.

    The gradient is g - q Σ g with g = -q^β P_α.
    """
    student_log_NC = F.log_softmax(student_NC, dim=-1)
    teacher_log_NC = F.log_softmax(teacher_NC, dim=-1)
    losses_N, slope_NC = _value_and_slope(student_log_NC, teacher_log_NC, alpha=alpha, beta=beta)
    sum_N1 = slope_NC.sum(dim=-1, keepdim=True)
    return losses_N, slope_NC.sub_(student_log_NC.exp_().mul_(sum_N1))


def _value_and_slope(
    student_log_NC: Tensor, teacher_log_NC: Tensor, *, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    if alpha == 0:
        teacher_log_NC = teacher_log_NC.clamp(min=LOG_TINY)
    by_alpha_NC = _difference(teacher_log_NC, student_log_NC, alpha)
    by_beta_NC = _difference(teacher_log_NC, student_log_NC, beta)
    slope_NC = by_alpha_NC.mul_(_power(student_log_NC, beta)).neg_()
    value_NC = by_beta_NC.mul_(_power(teacher_log_NC, alpha)).add_(slope_NC)
    return value_NC.sum(dim=-1) / (alpha + beta), slope_NC


def _power(log_NC: Tensor, exponent: float) -> Tensor:
    return torch.exp(exponent * log_NC) if exponent else torch.ones_like(log_NC)


def _difference(teacher_log_NC: Tensor, student_log_NC: Tensor, exponent: float) -> Tensor:
    """(p^a - q^a) / a, without subtracting powers that are alike."""
    if exponent == 0:
        return teacher_log_NC.clamp(min=LOG_TINY).sub_(student_log_NC)
    ratio_NC = teacher_log_NC - student_log_NC
    larger_NC = torch.maximum(teacher_log_NC, student_log_NC).mul_(exponent).exp_()
    apart_NC = ratio_NC.abs().mul_(-exponent).expm1_().div_(-exponent)
    return larger_NC.mul_(apart_NC).mul_(ratio_NC.sign_())
