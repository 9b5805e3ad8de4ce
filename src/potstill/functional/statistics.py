"""Statistics of a sample's features over its positions, and of features over a batch.

Shapes: B samples, C and D features, then positions, P of them when laid out in a row.
"""

import torch
from torch import Tensor

from potstill.functional.reductions import keep_rows, upcast
from potstill.functional.similarity import unit


def attention_map(feature: Tensor, *, power: float) -> Tensor:
    """`Σ_d |feature_d|^power` at each position, `[B, 1, *positions]`."""
    return upcast(feature).abs().pow(power).sum(dim=1, keepdim=True)


def flow(first_BCP: Tensor, second_BDP: Tensor, counts_B: Tensor | int) -> Tensor:
    """The mean over positions of `first_c · second_d`, `[B, C, D]`.

    Args:
        first_BCP: of one layer.
        second_BDP: of another layer, at the same positions.
        counts_B: how many positions count.
    """
    products_BCD = upcast(first_BCP) @ upcast(second_BDP).transpose(1, 2)
    if isinstance(counts_B, Tensor):
        return products_BCD / counts_B.clamp(min=1)[:, None, None]
    return products_BCD / counts_B


def selectivity_discrepancy(
    student_BCP: Tensor, teacher_BDP: Tensor, *, degree: int, constant: float
) -> Tensor:
    """Squared maximum mean discrepancy between the two sets of activation patterns, `[B]`.

    A pattern is what one feature answers over the positions, at length 1; the kernel between two is
    `(x · y + constant) ** degree`.
    """
    mine, theirs = unit(student_BCP), unit(teacher_BDP)

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.transpose(1, 2) + constant).pow(degree).mean(dim=(1, 2))

    return kernel(theirs, theirs) + kernel(mine, mine) - 2 * kernel(mine, theirs)


def standardised(values_ND: Tensor, mask_N: Tensor | None, *, eps: float) -> Tensor:
    """Each feature with mean 0 and variance 1 over the samples that count; others become 0."""
    values_ND = upcast(values_ND)
    if mask_N is None:
        mean_D = values_ND.mean(dim=0)
        variance_D = (values_ND - mean_D).square().mean(dim=0)
        return (values_ND - mean_D) * (variance_D + eps).rsqrt()
    count = mask_N.sum().clamp(min=1)
    mean_D = keep_rows(values_ND, mask_N).sum(dim=0) / count
    rest_ND = keep_rows(values_ND - mean_D, mask_N)
    variance_D = rest_ND.square().sum(dim=0) / count
    return rest_ND * (variance_D + eps).rsqrt()


def log_power_sum(differences: Tensor, *, power: float) -> Tensor:
    """`log Σ |d|^power`; where all are 0 a finite number with zero gradient."""
    total = upcast(differences).abs().pow(power).sum()
    return total.clamp(min=torch.finfo(total.dtype).tiny).log()
