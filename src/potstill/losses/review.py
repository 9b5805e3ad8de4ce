"""Knowledge review: each layer of the teacher teaches the student's layers down to its depth.

Shapes: B samples, D features, H by W positions.
"""

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.features.fusion import Fusion
from potstill.features.layout import Layout
from potstill.features.mapped import as_map
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_number
from potstill.losses.several import Features, LayersTerm
from potstill.signals import Target

_POOLED = (4, 2, 1)  # positions a side, with half of the weight before each time


@final
@dataclass(frozen=True, repr=False)
class Review(LayersTerm):
    r"""Layers of the student, fused from deep to shallow, follow the teacher's layers.

    Formula: $\sum_\ell \frac{\sum_k 2^{-k} \mathrm{mean}\,(A_k(u_\ell) - A_k(t_\ell))^2}{\sum_k
        2^{-k}}$; A_0 is the map itself, A_1 to A_3 its averages on 4×4, 2×2 and 1×1 positions, as
        far as they are smaller; u_ℓ is layer ℓ mixed with the next deeper mixture by weights that a
        1×1 convolution gives every position (attention-based fusion).
    Shapes: maps `[B, D, H, W]`, tokens (which fill a square) or vectors (1 by 1), in any mixture.
    Paper: Chen et al. 2021, arXiv:2104.09044; the weight grows there from 0 during 20 epochs.
    Requires: a teacher whose layers can be read; those of the paper are before their ReLU, with the
        pooled vector as the last. No labels.
    Related: `Hint` compares pairs of layers apart.
    Example: `CrossEntropy() + Review()`

    Args:
        student_layer: names of modules of the student, from shallow to deep; or "auto".
        teacher_layer: as many of the teacher, in the same order; or "auto".
        student_layout: how to read the student's features; by default from their number of axes.
        teacher_layout: how to read the teacher's features.
        seed: of the initial weights.
        width: features of the mixtures at most.
    """

    width: int = field(default=512, kw_only=True)

    batchwise: ClassVar[bool] = True  # the fusion normalises

    def __post_init__(self) -> None:
        LayersTerm.__post_init__(self)
        check_number(self, "width", self.width, at_least=1)

    def network(self, student: Features, teacher: Features) -> nn.Module:
        """The fusion."""
        return Fusion(
            maps(student, self.student_layout), maps(teacher, self.teacher_layout), width=self.width
        )

    def sample_losses(self, student: Features, teacher: Features, target: Target) -> Tensor:
        """As in `LayersTerm`."""
        assert self.module is not None, "`bind` made it"
        theirs = maps(teacher, self.teacher_layout)
        mine = self.module(maps(student, self.student_layout), [t.shape[2:] for t in theirs])
        pairs = zip(mine, theirs, strict=True)
        return torch.stack([_hierarchical(upcast(s), t) for s, t in pairs]).sum(dim=0)


def maps(features: Features, layout: Layout | str | None) -> list[Tensor]:
    """All as `[B, D, H, W]`, in float32 or better."""
    return [as_map(upcast(each), layout) for each in features]


def _hierarchical(student: Tensor, teacher: Tensor) -> Tensor:
    """`[B]`: squared error of the maps and of their averages on fewer positions."""
    height, width = student.shape[2:]
    loss_B, total, weight = _error(student, teacher), 1.0, 1.0
    for side in _POOLED:
        if side >= max(height, width):
            continue
        weight /= 2
        size = (min(side, height), min(side, width))
        pooled = [F.adaptive_avg_pool2d(each, size) for each in (student, teacher)]
        loss_B = loss_B + weight * _error(*pooled)
        total += weight
    return loss_B / total


def _error(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().flatten(1).mean(dim=1)
