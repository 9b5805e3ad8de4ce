"""Divergences between the teacher's and the student's class distributions, one value a row.

Shapes: N rows, C classes. Student arguments carry gradient, teacher arguments are constants.
Nothing here multiplies by T² or divides by a count: that is the business of the terms.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.functional.reductions import upcast

FLAT = 1e-6  # a spread this small beside the values is rounding noise in float32
LOG_TINY = math.log(torch.finfo(torch.float32).tiny)
LOG_HUGE = 80.0  # exp of it still fits float32


def log_softened(logits_NC: Tensor, temperature: float) -> Tensor:
    """`log_softmax(logits / temperature)` over the last axis, in float32 or better."""
    return F.log_softmax(_divided(logits_NC, temperature), dim=-1)


def softened(logits_NC: Tensor, temperature: float) -> Tensor:
    """`softmax(logits / temperature)` over the last axis, in float32 or better."""
    return F.softmax(_divided(logits_NC, temperature), dim=-1)


def standardised(logits_NC: Tensor, *, eps: float = 1e-7) -> Tensor:
    """`(logits - mean) / (eps + std)` of each row, with the unbiased standard deviation.

    A row without any spread has no shape to compare: it becomes 0, with zero gradient (the formula
    alone would send 1 / eps times the gradient back). Needs finite logits and C of 3 or more: two
    values always become the same pair.
    """
    logits_NC = upcast(logits_NC)
    centred_NC = logits_NC - logits_NC.mean(dim=-1, keepdim=True)
    std_N1 = logits_NC.std(dim=-1, keepdim=True)
    flat_N1 = std_N1 <= FLAT * logits_NC.abs().amax(dim=-1, keepdim=True)
    return torch.where(flat_N1, 0, centred_NC / (std_N1 + eps))


def kl(student_log_NC: Tensor, teacher_NC: Tensor) -> Tensor:
    """KL(teacher ‖ student), `[N]`; a class with teacher probability 0 adds 0.

    Args:
        student_log_NC: log-probabilities.
        teacher_NC: probabilities.
    """
    return F.kl_div(student_log_NC, teacher_NC, reduction="none").sum(dim=-1)


def reverse_kl(student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
    """KL(student ‖ teacher), `[N]`, both given as log-probabilities.

    The divergence is infinite where the teacher gives a class probability 0. Such classes are
    given the smallest float32 probability instead (log-probability -87.3), so that the gradient
    still drives the student away from them and stays finite.
    """
    teacher_log_NC = teacher_log_NC.clamp(min=LOG_TINY)
    return (student_log_NC.exp() * (student_log_NC - teacher_log_NC)).sum(dim=-1)


def jsd(student_log_NC: Tensor, teacher_log_NC: Tensor, *, beta: float) -> Tensor:
    """`beta * KL(p ‖ m) + (1 - beta) * KL(q ‖ m)` with `m = beta * p + (1 - beta) * q`, `[N]`.

    Args:
        student_log_NC: log q, from a softmax (its probabilities add up to 1).
        teacher_log_NC: log p; -inf is allowed.
        beta: share of the teacher in the mixture, strictly between 0 and 1. Towards 0 the value
            approaches `beta * KL(p ‖ q)`, towards 1 `(1 - beta) * KL(q ‖ p)`; at both ends it is 0.
    """
    # log(q / m) is a constant to autograd. Its own derivative is the same for all classes, which
    # a softmax cancels; left in, it costs two digits of the gradient in float32.
    ratio_NC = (teacher_log_NC - student_log_NC).detach().clamp(max=LOG_HUGE)
    student_to_mixture_NC = -torch.log1p(beta * torch.expm1(ratio_NC))
    teacher_NC = teacher_log_NC.exp()
    teacher_to_mixture_NC = ratio_NC + student_to_mixture_NC
    if beta > 0.5:  # the mixture is near the teacher: do not subtract what is alike
        inverse_NC = ratio_NC.neg().clamp_(max=LOG_HUGE)
        teacher_to_mixture_NC = -torch.log1p((1 - beta) * torch.expm1(inverse_NC))
    teacher_to_mixture_NC = torch.where(teacher_NC > 0, teacher_to_mixture_NC, 0)
    to_teacher_N = (teacher_NC * teacher_to_mixture_NC).sum(dim=-1)
    to_student_N = (student_log_NC.exp() * student_to_mixture_NC).sum(dim=-1)
    return beta * to_teacher_N + (1 - beta) * to_student_N


def skew_kl(student_log_NC: Tensor, teacher_log_NC: Tensor, *, skew: float) -> Tensor:
    """KL(p ‖ m) with `m = skew * p + (1 - skew) * q`, `[N]`.

    At most `-log(skew)`, wherever q is.

    Args:
        student_log_NC: log q.
        teacher_log_NC: log p; -inf is allowed.
        skew: share of the teacher in the mixture, strictly between 0 and 1.
    """
    ratio_NC = (teacher_log_NC - student_log_NC).detach().clamp(max=LOG_HUGE)
    to_mixture_NC = ratio_NC - torch.log1p(skew * torch.expm1(ratio_NC))
    teacher_NC = teacher_log_NC.exp()
    losses_N = torch.where(teacher_NC > 0, teacher_NC * to_mixture_NC, 0).sum(dim=-1)
    # By log q the derivative is (skew - 1) q p / m. With p / m - 1 instead, a softmax gives the
    # same gradient, without cancelling digits where p and q are alike.
    slope_NC = (skew - 1) * torch.expm1(to_mixture_NC)
    carrier_N = (student_log_NC.exp() * slope_NC).sum(dim=-1)
    return losses_N + (carrier_N - carrier_N.detach())


def skew_reverse_kl(student_log_NC: Tensor, teacher_log_NC: Tensor, *, skew: float) -> Tensor:
    """KL(q ‖ m) with `m = (1 - skew) * p + skew * q`, `[N]`.

    At most `-log(skew)`, also where the teacher rules a class out.

    Args:
        student_log_NC: log q.
        teacher_log_NC: log p; -inf is allowed.
        skew: share of the student in the mixture, strictly between 0 and 1.
    """
    ratio_NC = (teacher_log_NC - student_log_NC).clamp(max=LOG_HUGE)
    to_mixture_NC = -torch.log1p((1 - skew) * torch.expm1(ratio_NC))
    return (student_log_NC.exp() * to_mixture_NC).sum(dim=-1)


def total_variation(student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
    """`sum |p - q| / 2`, `[N]`, both given as log-probabilities; from 0 to 1."""
    return (teacher_log_NC.exp() - student_log_NC.exp()).abs().sum(dim=-1) / 2


def binary_kl(student_NC: Tensor, teacher_NC: Tensor) -> Tensor:
    """KL(Bernoulli(σ(teacher)) ‖ Bernoulli(σ(student))) of each logit, `[N, C]`.

    Infinite teacher logits are certain answers and allowed.
    """
    student_NC, teacher_NC = upcast(student_NC), upcast(teacher_NC)
    yes_NC = F.kl_div(F.logsigmoid(student_NC), teacher_NC.sigmoid(), reduction="none")
    no_NC = F.kl_div(F.logsigmoid(-student_NC), (-teacher_NC).sigmoid(), reduction="none")
    return yes_NC + no_NC


def is_target(labels_N: Tensor, num_classes: int) -> Tensor:
    """`[N, C]` bool, true at each row's label."""
    return labels_N[:, None] == torch.arange(num_classes, device=labels_N.device)


def target_split(logits_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Log-probabilities of "the label" and of "any other class", `[N, 2]`.

    Args:
        logits_NC: already divided by the temperature.
        target_NC: from `is_target`.
    """
    label_N = logits_NC.masked_fill(~target_NC, -math.inf).amax(dim=-1)
    other_N = logits_NC.masked_fill(target_NC, -math.inf).logsumexp(dim=-1)
    return F.log_softmax(torch.stack([label_N, other_N], dim=-1), dim=-1)


def other_log_probs(logits_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Log-probabilities among the classes that are not the label, `[N, C]`; 0 at the label.

    The 0 is a placeholder that meets a teacher probability of 0 (`other_probs`).
    """
    others_NC = F.log_softmax(logits_NC.masked_fill(target_NC, -math.inf), dim=-1)
    return others_NC.masked_fill(target_NC, 0.0)


def other_probs(logits_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Probabilities among the classes that are not the label, `[N, C]`; 0 at the label.

    All zero where the logits leave no class but the label.
    """
    return F.softmax(logits_NC.masked_fill(target_NC, -math.inf), dim=-1).nan_to_num(nan=0.0)


def _divided(logits_NC: Tensor, temperature: float) -> Tensor:
    logits_NC = upcast(logits_NC)
    return logits_NC if temperature == 1 else logits_NC / temperature
