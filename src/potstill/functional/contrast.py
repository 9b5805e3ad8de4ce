"""Telling a vector's own partner from others.

Shapes: N samples, M candidates.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_NEVER = torch.finfo(torch.float32).min / 2  # a softmax makes exactly 0 of it; finite, unlike -inf


def noise_contrast(
    scores_NM: Tensor, own_NM: Tensor, others_NM: Tensor, *, log_ratio: Tensor
) -> Tensor:
    """`-log h(own) - Σ log(1 - h(other))`, `h = e^x / (e^x + r)`, `[N]`.

    Args:
        scores_NM: x.
        own_NM: bool, the partner of each row.
        others_NM: bool, the noise.
        log_ratio: log r, of one number for all or `[N, 1]`.
    """
    odds_NM = scores_NM - log_ratio
    losses_NM = torch.where(own_NM, F.softplus(-odds_NM), F.softplus(odds_NM))
    return torch.where(own_NM | others_NM, losses_NM, 0).sum(dim=1)


def choice_contrast(scores_NM: Tensor, own_NM: Tensor, others_NM: Tensor) -> Tensor:
    """`-log softmax` at the own one, over it and the others, `[N]`."""
    logits_NM = torch.where(own_NM | others_NM, scores_NM, _NEVER)
    return torch.where(own_NM, -F.log_softmax(logits_NM, dim=1), 0).sum(dim=1)


def candidate_kl(student_NM: Tensor, teacher_NM: Tensor, alive_NM: Tensor) -> Tensor:
    """KL(teacher ‖ student) of the softmax over the candidates that count, `[N]`."""
    student_log_NM = F.log_softmax(torch.where(alive_NM, student_NM, _NEVER), dim=1)
    teacher_NM = F.softmax(torch.where(alive_NM, teacher_NM, _NEVER), dim=1)
    each_NM = F.kl_div(student_log_NM, teacher_NM, reduction="none")
    return torch.where(alive_NM, each_NM, 0).sum(dim=1)
