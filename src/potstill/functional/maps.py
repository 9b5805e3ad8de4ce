"""Comparisons of maps by channel: standardised errors, and divergences over positions.

Shapes: B samples, D channels, P positions; features are `[B, D, *positions]`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.functional.divergences import FLAT
from potstill.functional.reductions import upcast

_NEVER = torch.finfo(torch.float32).min / 2  # a softmax makes exactly 0 of it; finite, unlike -inf


def standardised_error(student: Tensor, teacher: Tensor, kept_BP: Tensor | None) -> Tensor:
    """`[B]`, squared errors of maps that have mean 0 and variance 1 in every channel.

    Means and variances are over all samples and positions that are kept. The mean over the samples
    that have any is the mean over all kept elements, which is 2 (1 - Pearson's correlation),
    averaged over channels. A constant channel stays 0, with zero gradient.

    Args:
        student: `[B, D, *positions]`.
        teacher: the same shape.
        kept_BP: bool, what counts; `None` means everything.
    """
    first, second = (_standardised(_flat(each), kept_BP) for each in (student, teacher))
    squares_BP = (first - second).square().mean(dim=1)
    if kept_BP is None:
        return squares_BP.mean(dim=1)
    samples = kept_BP.any(dim=1).sum()
    share = samples / kept_BP.sum().clamp(min=1)
    return torch.where(kept_BP, squares_BP, 0).sum(dim=1) * share


def channel_kl(
    student: Tensor, teacher: Tensor, *, temperature: float, kept_BP: Tensor | None
) -> Tensor:
    """`[B]`, T² KL(teacher ‖ student) of a softmax over positions, averaged over channels.

    Args:
        student: `[B, D, *positions]`.
        teacher: the same shape.
        temperature: T.
        kept_BP: bool, the positions that count; `None` means all.
    """
    logs = []
    for each in (student, teacher):
        scores_BDP = _flat(each) / temperature
        if kept_BP is not None:
            scores_BDP = torch.where(kept_BP[:, None], scores_BDP, _NEVER)
        logs.append(F.log_softmax(scores_BDP, dim=-1))
    each_BDP = F.kl_div(logs[0], logs[1], reduction="none", log_target=True)
    if kept_BP is not None:
        each_BDP = torch.where(kept_BP[:, None], each_BDP, 0)
    return temperature**2 * each_BDP.sum(dim=-1).mean(dim=-1)


def _flat(feature: Tensor) -> Tensor:
    return upcast(feature).reshape(*feature.shape[:2], -1)


def _standardised(values_BDP: Tensor, kept_BP: Tensor | None) -> Tensor:
    kept = torch.ones_like(values_BDP[:, :1], dtype=torch.bool)
    if kept_BP is not None:
        kept = kept_BP[:, None]
    count = kept.sum().clamp(min=1)
    values_BDP = torch.where(kept, values_BDP, 0)
    mean_D1 = values_BDP.sum(dim=(0, 2), keepdim=True) / count
    rest_BDP = torch.where(kept, values_BDP - mean_D1, 0)
    power_D1 = rest_BDP.square().sum(dim=(0, 2), keepdim=True) / count
    whole_D1 = values_BDP.detach().square().sum(dim=(0, 2), keepdim=True) / count
    alive_D1 = power_D1 > FLAT**2 * whole_D1
    return torch.where(alive_D1, rest_BDP * torch.where(alive_D1, power_D1, 1).rsqrt(), 0)
