"""Row-wise losses together with their gradient by the student's logits, in closed form.

Each equals autograd through its namesake in `divergences` after a log-softmax, with fewer passes
over memory. Shapes: N rows, C classes. Logits are float32 or float64, already divided by the
temperature, finite (see `scratch`), and **overwritten**. Returned are `[N]` losses and `[N, C]`
gradients of each row's loss by that row's logits.
"""

import torch
from torch import Tensor

from potstill.functional.divergences import LOG_HUGE, LOG_TINY
from potstill.functional.reductions import upcast

LOWEST = -1e30  # stands for -inf where 0 * -inf would be NaN; its exponential is 0
_IGNORED = -100  # the label that torch.nn.functional.cross_entropy leaves out


def scratch(logits_NC: Tensor, temperature: float) -> Tensor:
    """A copy of `logits / temperature` in float32 or better that may be overwritten.

    Logits of -inf (classes that are ruled out) become `LOWEST`.
    """
    copy_NC = torch.clamp(upcast(logits_NC), min=LOWEST)
    return copy_NC if temperature == 1 else copy_NC.div_(temperature)


def kl_gradient(student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p ‖ q); its gradient is q - p."""
    q_NC, p_NC, ratio_NC = _ratio(student_NC, teacher_NC)
    return _dot(p_NC, ratio_NC), q_NC.sub_(p_NC)


def reverse_kl_gradient(student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q ‖ p) with log p of at least -87.3; its gradient is q (log q - log p - KL)."""
    (q_NC, student_log_N), (_, teacher_log_N) = _softmax(student_NC), _softmax(teacher_NC)
    teacher_log_NC = teacher_NC.sub_(teacher_log_N[:, None]).clamp_(min=LOG_TINY)
    ratio_NC = student_NC.sub_(student_log_N[:, None]).sub_(teacher_log_NC)
    losses_N = _dot(q_NC, ratio_NC)
    return losses_N, q_NC.mul_(ratio_NC.sub_(losses_N[:, None]))


def jsd_gradient(student_NC: Tensor, teacher_NC: Tensor, *, beta: float) -> tuple[Tensor, Tensor]:
    """As `divergences.jsd`; the gradient is (1 - β) q (u - Σ q u) with u = log q - log m."""
    q_NC, p_NC, ratio_NC = _ratio(student_NC, teacher_NC, highest=LOG_HUGE)
    student_to_mixture_NC = torch.expm1(ratio_NC).mul_(beta).log1p_().neg_()
    if beta > 0.5:  # the mixture is near the teacher: do not subtract what is alike
        inverse_NC = ratio_NC.neg_().clamp_(max=LOG_HUGE)
        teacher_to_mixture_NC = torch.expm1(inverse_NC).mul_(1 - beta).log1p_().neg_()
    else:
        teacher_to_mixture_NC = ratio_NC.add_(student_to_mixture_NC)
    to_student_N = _dot(q_NC, student_to_mixture_NC)
    losses_N = beta * _dot(p_NC, teacher_to_mixture_NC) + (1 - beta) * to_student_N
    slope_NC = student_to_mixture_NC.sub_(to_student_N[:, None]).mul_(1 - beta)
    return losses_N, q_NC.mul_(slope_NC)


def skew_kl_gradient(
    student_NC: Tensor, teacher_NC: Tensor, *, skew: float
) -> tuple[Tensor, Tensor]:
    """As `divergences.skew_kl`; the gradient is (1 - λ) q (Σ q p / m - p / m)."""
    q_NC, p_NC, ratio_NC = _ratio(student_NC, teacher_NC, highest=LOG_HUGE)
    excess_NC = torch.expm1(ratio_NC)  # p / q - 1
    ratio_NC.sub_(torch.log1p(skew * excess_NC))
    losses_N = _dot(p_NC, ratio_NC)
    above_NC = ratio_NC.expm1_()  # p / m - 1: the 1 falls out, and small differences keep digits
    slope_NC = above_NC.sub_(_dot(q_NC, above_NC)[:, None]).mul_(skew - 1)
    return losses_N, q_NC.mul_(slope_NC)


def skew_reverse_kl_gradient(
    student_NC: Tensor, teacher_NC: Tensor, *, skew: float
) -> tuple[Tensor, Tensor]:
    """As `divergences.skew_reverse_kl`; the gradient is q (g - Σ q g).

    g = log q - log m - λ q / m.
    """
    q_NC, _, ratio_NC = _ratio(student_NC, teacher_NC, highest=LOG_HUGE)
    to_mixture_NC = ratio_NC.expm1_().mul_(1 - skew).log1p_().neg_()
    losses_N = _dot(q_NC, to_mixture_NC)
    slope_NC = to_mixture_NC.sub_(torch.expm1(to_mixture_NC).mul_(skew))
    slope_NC.sub_(_dot(q_NC, slope_NC)[:, None])
    return losses_N, q_NC.mul_(slope_NC)


def total_variation_gradient(student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
    """Half of Σ |p - q|; the gradient is q (g - Σ q g) with g = sign(q - p) / 2."""
    q_NC, p_NC = torch.softmax(student_NC, dim=-1), torch.softmax(teacher_NC, dim=-1)
    differences_NC = torch.sub(q_NC, p_NC, out=p_NC)
    losses_N = torch.abs(differences_NC, out=student_NC).sum(dim=-1) / 2
    sign_NC = differences_NC.sign_()
    slope_NC = sign_NC.sub_(_dot(q_NC, sign_NC)[:, None]).mul_(0.5)
    return losses_N, q_NC.mul_(slope_NC)


def cross_entropy_gradient(
    student_NC: Tensor, labels: Tensor, *, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Cross entropy with labels `[N]` or `[N, C]`; only here the logits are left as they are.

    The gradient is q Σ y - y with the smoothed labels y.
    """
    q_NC = torch.softmax(student_NC, dim=-1)
    lse_N = student_NC.amax(dim=-1) - q_NC.amax(dim=-1).log()
    num_classes = student_NC.shape[-1]
    if labels.is_floating_point():
        wanted_NC = labels.to(q_NC.dtype) * (1 - smoothing) + smoothing / num_classes
        mass_N = wanted_NC.sum(dim=-1)
        losses_N = lse_N * mass_N - _dot(wanted_NC, student_NC)
        return losses_N, q_NC.mul_(mass_N[:, None]).sub_(wanted_NC)
    ignored_N = labels == _IGNORED
    labels_N1 = labels.masked_fill(ignored_N, 0)[:, None]
    losses_N = lse_N - (1 - smoothing) * student_NC.gather(1, labels_N1)[:, 0]
    if smoothing:
        losses_N.sub_(smoothing * student_NC.mean(dim=-1))
        q_NC.sub_(smoothing / num_classes)
    q_NC.scatter_add_(1, labels_N1, q_NC.new_full(labels_N1.shape, smoothing - 1))
    return losses_N.masked_fill_(ignored_N, 0), q_NC.masked_fill_(ignored_N[:, None], 0)


def _ratio(
    student_NC: Tensor, teacher_NC: Tensor, *, highest: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """q, p and log(p / q), the last at most `highest`."""
    (q_NC, student_log_N), (p_NC, teacher_log_N) = _softmax(student_NC), _softmax(teacher_NC)
    offset_N1 = (teacher_log_N - student_log_N)[:, None]
    ratio_NC = teacher_NC.sub_(student_NC).sub_(offset_N1)
    return q_NC, p_NC, ratio_NC if highest is None else ratio_NC.clamp_(max=highest)


def _softmax(logits_NC: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax, and the log of what it divides by after each row was moved to a maximum of 0.

    The logits are moved; the largest probability is 1 / sum of exponentials, which saves a pass.
    """
    logits_NC.sub_(logits_NC.amax(dim=-1, keepdim=True))
    probs_NC = torch.softmax(logits_NC, dim=-1)
    return probs_NC, probs_NC.amax(dim=-1).log().neg_()


def _dot(first_NC: Tensor, second_NC: Tensor) -> Tensor:
    return torch.as_tensor(torch.linalg.vecdot(first_NC, second_NC, dim=-1))
