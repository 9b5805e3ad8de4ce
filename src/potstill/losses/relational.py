"""Terms on how the samples of a batch relate: a vector a sample, of any width on either side.

Shapes: B samples, D features of the student, E of the teacher.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from potstill.features.pairing import Wanted
from potstill.functional.relational import (
    angle_potential,
    correlation_congruence,
    distance_potential,
    neighbour_kl,
    similarity_preserving,
)
from potstill.losses.batch import BatchTerm
from potstill.losses.checks import check_number, check_whole


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class SimilarityPreserving(BatchTerm):
    r"""Find the same samples alike as the teacher does, by whole activation maps.

    Formula: $\frac{1}{B^2} \|G_t - G_s\|_F^2$, G the rows of $Q Q^\top$ at length 1, Q the features
        of a sample laid out in a row.
    Shapes: maps, tokens, signals or vectors of any number of features and positions, `[B, …]`.
    Paper: Tung and Mori 2019, arXiv:1907.09682; there times 3000 on the last maps.
    Requires: two models whose layers can be read, and batches of many samples. No labels.
    Related: `CorrelationCongruence` normalises the vectors, not the rows of the matrix.
    Example: `CrossEntropy() + 3000 * SimilarityPreserving()`

    Args:
        student_layer: name, names in order, or "auto": the last layer with positions.
        teacher_layer: likewise.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
    """

    wanted: ClassVar[Wanted] = Wanted.LAST

    def read(self, feature: Tensor, positions_BL: Tensor | None) -> Tensor:
        """All features at all positions; 0 at padding."""
        if positions_BL is not None:
            feature = torch.where(positions_BL[:, None], feature, 0)
        return feature.flatten(1)

    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """As in `BatchTerm`."""
        return similarity_preserving(student_BD, teacher_BE, mask_B)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class CorrelationCongruence(BatchTerm):
    r"""Correlate samples with each other as the teacher does, under a Gaussian kernel.

    Formula: $\frac{1}{B^2} \|C_t - C_s\|_F^2$ with $C_{ij} = e^{-2\gamma} \sum_{p=0}^{P}
        \frac{(2\gamma)^p}{p!} (x_i^\top x_j)^p$, the Taylor series of $e^{-\gamma\|x_i - x_j\|^2}$
        for vectors of length 1.
    Shapes: vectors `[B, D]` and `[B, E]`; maps and tokens are averaged over positions.
    Paper: Peng et al. 2019, arXiv:1904.01802 (equations 4 to 8; γ = 0.4, P = 2). Its first public
        code compares neighbouring rows of one batch instead, another takes the root of the sum and
        leaves the lengths as they are; this follows the paper.
    Requires: two models whose layers can be read, and batches of many samples. No labels.
    Related: `PKT` compares whom a sample is near to, not how near.
    Example: `KD() + 0.1 * CrossEntropy() + 100 * CorrelationCongruence()`

    Args:
        student_layer: name, names in order, or "auto": what goes into the head.
        teacher_layer: likewise.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        gamma: of the kernel, above 0.
        order: P, where the series ends, 1 or more.
    """

    gamma: float = 0.4
    order: int = 2

    def __post_init__(self) -> None:
        BatchTerm.__post_init__(self)
        check_number(self, "gamma", self.gamma, above=0)
        check_whole(self, "order", self.order, at_least=1)

    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """As in `BatchTerm`."""
        return correlation_congruence(
            student_BD, teacher_BE, mask_B, gamma=self.gamma, order=self.order
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class _Potential(BatchTerm):
    """A potential of samples that Huber's loss compares."""

    delta: float = 1.0

    def __post_init__(self) -> None:
        BatchTerm.__post_init__(self)
        check_number(self, "delta", self.delta, above=0)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class RkdDistance(_Potential):
    r"""Keep the distances between samples, in units of their mean.

    Formula: $\frac{1}{B^2} \sum_{i \ne j} h(\psi^s_{ij} - \psi^t_{ij})$, $\psi_{ij} = \|x_i - x_j\|
        / \mu$ with μ the mean over pairs of two samples, h Huber's with δ.
    Shapes: vectors `[B, D]` and `[B, E]`; maps and tokens are averaged over positions.
    Paper: Park et al. 2019, arXiv:1904.05068 (equations 6 to 9), which sums over pairs; the mean
        over B² is the authors' code's.
    Requires: two models whose layers can be read, and batches of many samples. No labels.
    Related: `RkdAngle` does not depend on scale at all.
    Example: `CrossEntropy() + 25 * RkdDistance() + 50 * RkdAngle()`

    Args:
        student_layer: name, names in order, or "auto": what goes into the head.
        teacher_layer: likewise.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        delta: of Huber's loss, above 0.
    """

    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """As in `BatchTerm`."""
        return distance_potential(student_BD, teacher_BE, mask_B, delta=self.delta)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class RkdAngle(_Potential):
    r"""Keep the angles that samples make with each other.

    Formula: $\frac{1}{B^3} \sum_{ijk} h(\cos\angle^s_{ijk} - \cos\angle^t_{ijk})$, the angle at
        $x_j$ between the directions to $x_i$ and $x_k$, h Huber's with δ.
    Shapes: vectors `[B, D]` and `[B, E]`; maps and tokens are averaged over positions.
    Paper: Park et al. 2019, arXiv:1904.05068 (equations 10 to 12), which sums over triplets; the
        mean over B³ is the authors' code's.
    Requires: two models whose layers can be read, and batches of many samples. No labels. Work
        grows with B³; beyond some 250 samples memory stays as it is and time is paid twice.
    Related: `RkdDistance` is the cheaper half.
    Example: `CrossEntropy() + 25 * RkdDistance() + 50 * RkdAngle()`

    Args:
        student_layer: name, names in order, or "auto": what goes into the head.
        teacher_layer: likewise.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        delta: of Huber's loss, above 0.
    """

    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """As in `BatchTerm`."""
        return angle_potential(student_BD, teacher_BE, mask_B, delta=self.delta)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class PKT(BatchTerm):
    r"""Be near to the same samples as the teacher, as a probability over the batch.

    Formula: $\mathrm{mean}_i\, \mathrm{KL}(p_i \| q_i)$ with $p_{ij} = K_{ij} / \sum_{k \ne i}
        K_{ik}$, $K_{ij} = (1 + \cos(x_i, x_j)) / 2$ of the teacher, q alike of the student.
    Shapes: vectors `[B, D]` and `[B, E]`; maps and tokens are averaged over positions.
    Paper: Passalis and Tefas 2018, arXiv:1803.10837 (equations 3, 4 and 6). The authors' code
        counts a sample as its own neighbour and divides by B once more; this follows the paper.
    Requires: two models whose layers can be read, and batches of many samples. No labels.
    Related: `SimilarityKL` does so for embeddings, sharper, by a softmax.
    Example: `CrossEntropy() + 500 * PKT()`

    Args:
        student_layer: name, names in order, or "auto": what goes into the head.
        teacher_layer: likewise.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
    """

    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """As in `BatchTerm`."""
        return neighbour_kl(student_BD, teacher_BE, mask_B)
