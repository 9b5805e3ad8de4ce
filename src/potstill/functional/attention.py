"""Who attends to whom, compared: one value a sample, padding left out.

Shapes: B samples, H heads, L positions, d features of a head.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.functional.reductions import upcast

_NEVER = torch.finfo(torch.float32).min / 2  # a softmax makes exactly 0 of it; finite, unlike -inf


def attention_kl(student_BHLL: Tensor, teacher_BHLL: Tensor, positions_BL: Tensor | None) -> Tensor:
    """KL(teacher ‖ student) of the attention, mean over heads and querying positions, `[B]`.

    Args:
        student_BHLL: scores before the softmax over the last axis.
        teacher_BHLL: the same of the teacher, constant.
        positions_BL: bool, which positions count, as queries and as keys; `None` means all.
    """
    student_BHLL, teacher_BHLL = upcast(student_BHLL), upcast(teacher_BHLL)
    if positions_BL is not None:
        keys_B11L = positions_BL[:, None, None, :]
        student_BHLL = torch.where(keys_B11L, student_BHLL, _NEVER)
        teacher_BHLL = torch.where(keys_B11L, teacher_BHLL, _NEVER)
    student_log_BHLL = F.log_softmax(student_BHLL, dim=-1)
    teacher_p_BHLL = F.softmax(teacher_BHLL, dim=-1)
    each_BHL = F.kl_div(student_log_BHLL, teacher_p_BHLL, reduction="none").sum(dim=-1)
    return _mean_over_positions(each_BHL.mean(dim=1), positions_BL)


def attention_squared_error(
    student_BHLL: Tensor, teacher_BHLL: Tensor, positions_BL: Tensor | None
) -> Tensor:
    """`(student - teacher)²` of the scores, mean over heads and pairs of positions, `[B]`.

    Args:
        student_BHLL: scores before the softmax.
        teacher_BHLL: the same of the teacher, constant.
        positions_BL: bool, which positions count; pairs of two that do are compared.
    """
    student_BHLL, teacher_BHLL = upcast(student_BHLL), upcast(teacher_BHLL)
    if positions_BL is not None:
        student_BHLL = torch.where(positions_BL[:, None, None, :], student_BHLL, 0)
        teacher_BHLL = torch.where(positions_BL[:, None, None, :], teacher_BHLL, 0)
    each_BLL = (student_BHLL - teacher_BHLL).square().mean(dim=1)
    if positions_BL is None:
        return each_BLL.mean(dim=(1, 2))
    each_BL = each_BLL.sum(dim=2) / positions_BL.sum(dim=1, keepdim=True).clamp(min=1)
    return _mean_over_positions(each_BL, positions_BL)


def relation_scores(vectors_BHLd: Tensor, *, heads: int) -> Tensor:
    """Scaled dot products of the vectors at all pairs of positions, `[B, heads, L, L]`.

    All heads' vectors are joined and divided anew into `heads`, so that models with unequal
    numbers of heads can be compared (MiniLMv2, arXiv:2012.15828, section 3.2).
    """
    joined_BLD = upcast(vectors_BHLd).transpose(1, 2).flatten(2)
    apart_BHLd = joined_BLD.reshape(*joined_BLD.shape[:-1], heads, -1).transpose(1, 2)
    return apart_BHLd @ apart_BHLd.transpose(-1, -2) / sqrt(apart_BHLd.shape[-1])


def _mean_over_positions(each_BL: Tensor, positions_BL: Tensor | None) -> Tensor:
    """Selected, not multiplied: what padding holds reaches neither value nor gradient."""
    if positions_BL is None:
        return each_BL.mean(dim=1)
    kept_BL = torch.where(positions_BL, each_BL, 0)
    return kept_BL.sum(dim=1) / positions_BL.sum(dim=1).clamp(min=1)
