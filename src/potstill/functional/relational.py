"""How the samples of a batch relate to each other, compared: one number a batch.

Shapes: N samples, D features of the student, E of the teacher. A mask says which samples count;
features of the others are zeros.
"""

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from potstill.functional.distances import huber
from potstill.functional.reductions import upcast
from potstill.functional.similarity import unit

_EPS = 1e-7  # beneath probabilities before their logarithm
_ELEMENTS = 1 << 24  # of angles or of differences that are held at once


def similarity_preserving(student_ND: Tensor, teacher_NE: Tensor, mask_N: Tensor | None) -> Tensor:
    """Squared difference of the row-normalised Gram matrices, over N²."""
    grams = [unit(each @ each.T) for each in (upcast(student_ND), upcast(teacher_NE))]
    return (grams[0] - grams[1]).square().sum() / _number(student_ND, mask_N) ** 2


def correlation_congruence(
    student_ND: Tensor, teacher_NE: Tensor, mask_N: Tensor | None, *, gamma: float, order: int
) -> Tensor:
    """Squared difference of the correlations of all pairs, over N².

    Args:
        student_ND: carries gradient.
        teacher_NE: constant; its width is its own.
        mask_N: bool; `None` means all.
        gamma: of the Gaussian kernel between vectors of length 1.
        order: of its Taylor series.
    """
    pairs = [_gaussian(unit(each), gamma, order) for each in (student_ND, teacher_NE)]
    squares_NN = (pairs[0] - pairs[1]).square()
    return _kept(squares_NN, mask_N).sum() / _number(student_ND, mask_N) ** 2


def distance_potential(
    student_ND: Tensor, teacher_NE: Tensor, mask_N: Tensor | None, *, delta: float
) -> Tensor:
    """Huber loss between the distances of all pairs, each in units of its mean, over N²."""
    student_NN, teacher_NN = (_in_means(each, mask_N) for each in (student_ND, teacher_NE))
    losses_NN = _kept(huber(student_NN, teacher_NN, delta=delta), mask_N)
    return losses_NN.sum() / _number(student_ND, mask_N) ** 2


def angle_potential(
    student_ND: Tensor, teacher_NE: Tensor, mask_N: Tensor | None, *, delta: float
) -> Tensor:
    """Huber loss between the cosines of the angles of all triplets, over N³.

    Where that is many, some anchors are looked at after the other, and again in the backward pass.
    """
    student_ND, teacher_NE = upcast(student_ND), upcast(teacher_NE)
    count = len(student_ND)
    widest = max(count, student_ND.shape[1], teacher_NE.shape[1])
    size = max(1, _ELEMENTS // max(1, count * widest))
    if size >= count:
        total = _angles(student_ND, teacher_NE, student_ND, teacher_NE, mask_N, mask_N, delta)
        return total / _number(student_ND, mask_N) ** 3
    total = student_ND.new_zeros(())
    for start in range(0, count, size):
        rows = slice(start, start + size)
        anchors_J = None if mask_N is None else mask_N[rows]
        each = checkpoint(
            _angles,
            student_ND[rows], teacher_NE[rows], student_ND, teacher_NE, anchors_J, mask_N, delta,
            use_reentrant=False,
        )  # fmt: skip
        total = total + torch.as_tensor(each)
    return total / _number(student_ND, mask_N) ** 3


def neighbour_kl(student_ND: Tensor, teacher_NE: Tensor, mask_N: Tensor | None) -> Tensor:
    """Mean over samples of KL(teacher ‖ student) between whom each one is near to.

    Of sample i, the others have probabilities in proportion to (1 + cosine) / 2.
    """
    near = [_neighbours(each, mask_N) for each in (student_ND, teacher_NE)]
    each_NN = near[1] * ((near[1] + _EPS).log() - (near[0] + _EPS).log())
    return _kept(each_NN, mask_N).sum() / _number(student_ND, mask_N)


def _number(rows: Tensor, mask_N: Tensor | None) -> Tensor | int:
    """How many samples count, at least one."""
    return max(len(rows), 1) if mask_N is None else mask_N.sum().clamp(min=1)


def _kept(values_NN: Tensor, mask_N: Tensor | None) -> Tensor:
    """0 where one of a pair does not count."""
    if mask_N is None:
        return values_NN
    return torch.where(mask_N[:, None] & mask_N[None, :], values_NN, 0)


def _gaussian(unit_ND: Tensor, gamma: float, order: int) -> Tensor:
    products_NN = unit_ND @ unit_ND.T
    series_NN = torch.ones_like(products_NN)
    for power in range(1, order + 1):
        weight = (2 * gamma) ** power / math.factorial(power)
        series_NN = series_NN + weight * products_NN**power
    return math.exp(-2 * gamma) * series_NN


def _in_means(vectors_ND: Tensor, mask_N: Tensor | None) -> Tensor:
    """Distances of all pairs, divided by their mean over pairs of two samples."""
    vectors_ND = upcast(vectors_ND)
    exact = "donot_use_mm_for_euclid_dist"
    distances_NN = _kept(torch.cdist(vectors_ND, vectors_ND, compute_mode=exact), mask_N)
    number = _number(vectors_ND, mask_N)
    mean = distances_NN.sum() / torch.as_tensor(number * (number - 1)).clamp(min=1)
    return distances_NN / mean.clamp(min=torch.finfo(mean.dtype).tiny)


def _angles(
    student_JD: Tensor,
    teacher_JE: Tensor,
    student_ND: Tensor,
    teacher_NE: Tensor,
    anchors_J: Tensor | None,
    mask_N: Tensor | None,
    delta: float,
) -> Tensor:
    """The sum over the triplets that have one of J samples at their corner."""
    cosines = []
    for anchors, all_rows in ((student_JD, student_ND), (teacher_JE, teacher_NE)):
        towards_JND = unit(all_rows[None, :, :] - anchors[:, None, :])
        cosines.append(towards_JND @ towards_JND.transpose(1, 2))
    losses_JNN = huber(cosines[0], cosines[1], delta=delta)
    if mask_N is None or anchors_J is None:
        return losses_JNN.sum()
    pairs_NN = mask_N[:, None] & mask_N[None, :]
    return torch.where(anchors_J[:, None, None] & pairs_NN, losses_JNN, 0).sum()


def _neighbours(vectors_ND: Tensor, mask_N: Tensor | None) -> Tensor:
    unit_ND = unit(vectors_ND)
    near_NN = ((unit_ND @ unit_ND.T + 1) / 2).clamp(min=0)
    itself_NN = torch.eye(len(unit_ND), dtype=torch.bool, device=unit_ND.device)
    near_NN = _kept(torch.where(itself_NN, 0, near_NN), mask_N)
    return near_NN / near_NN.sum(dim=1, keepdim=True).clamp(min=_EPS)
