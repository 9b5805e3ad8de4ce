"""Distances and correlations between two tensors of one shape.

Gradients stay finite at the points where the textbook formula has none: a zero vector has no
direction and a constant one no correlation, so both give similarity 0 with zero gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.functional.divergences import FLAT
from potstill.functional.reductions import upcast


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """`(student - teacher)²`, element by element."""
    return (upcast(student) - upcast(teacher)).square()


def huber(student: Tensor, teacher: Tensor, *, delta: float) -> Tensor:
    """`d² / 2` for |d| up to `delta`, `delta * (|d| - delta / 2)` beyond, element by element."""
    return F.huber_loss(upcast(student), upcast(teacher), reduction="none", delta=delta)


def cosine_similarity(student: Tensor, teacher: Tensor, *, dim: int) -> Tensor:
    """Cosine of the angle between the vectors along `dim`, which disappears."""
    student, teacher = upcast(student), upcast(teacher)
    student_power = student.square().sum(dim)
    teacher_power = teacher.square().sum(dim)
    alive = (student_power > 0) & (teacher_power > 0)
    return _ratio((student * teacher).sum(dim), student_power, teacher_power, alive=alive)


def pearson(student: Tensor, teacher: Tensor, *, dim: int, mask: Tensor | None = None) -> Tensor:
    """Pearson's correlation along `dim`, which disappears.

    Args:
        student: of any shape.
        teacher: of the same shape.
        dim: the axis of the observations.
        mask: bool, broadcasts against the others; observations that are false are left out.
    """
    student, teacher = upcast(student), upcast(teacher)
    student_rest = _centred(student, dim=dim, mask=mask)
    teacher_rest = _centred(teacher, dim=dim, mask=mask)
    student_power = student_rest.square().sum(dim)
    teacher_power = teacher_rest.square().sum(dim)
    alive = (student_power > FLAT**2 * student.detach().square().sum(dim)) & (
        teacher_power > FLAT**2 * teacher.square().sum(dim)
    )
    covariance = (student_rest * teacher_rest).sum(dim)
    return _ratio(covariance, student_power, teacher_power, alive=alive)


def _centred(values: Tensor, *, dim: int, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values - values.mean(dim, keepdim=True)
    kept = torch.where(mask, values, 0)
    count = mask.expand_as(values).sum(dim, keepdim=True).clamp(min=1)
    return torch.where(mask, kept - kept.sum(dim, keepdim=True) / count, 0)


def _ratio(
    product: Tensor, student_power: Tensor, teacher_power: Tensor, *, alive: Tensor
) -> Tensor:
    student_power = torch.where(alive, student_power, 1)
    teacher_power = torch.where(alive, teacher_power, 1)
    return torch.where(alive, product * student_power.rsqrt() * teacher_power.rsqrt(), 0)
