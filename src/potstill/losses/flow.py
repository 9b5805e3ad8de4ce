"""FSP: how one layer's features go on to the next one's.

Shapes: B samples, C and D features of two layers, P positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self, final

import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import HandshakeError
from potstill.features.layout import Layout, features_first, layout_of
from potstill.features.projectors import Projector
from potstill.functional.statistics import flow
from potstill.losses.statistics import MapTerm, Pair
from potstill.signals import Signals


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class FSP(MapTerm):
    r"""Go from layer to layer as the teacher does: the flow of the solution procedure.

    Formula: $\sum_\ell \|G^s_\ell - G^t_\ell\|_F^2$, $G_{cd} = \frac{1}{HW} \sum_{h,w} F^1_{chw}
        F^2_{dhw}$ of each layer named and the next one; the larger of the two maps goes through a
        maximum over cells of the smaller one's grid.
    Shapes: two or more layers a side, with positions; the two models' positions may differ. Where
        their features do, the student's go through a learnable linear map.
    Paper: Yim et al. 2017, doi:10.1109/CVPR.2017.754 (equations 1 and 2). Public code differs: one
        takes the mean over the matrix and pools by averages, another sums norms of columns; this
        follows the paper, which knows no unequal widths.
    Requires: two models whose layers can be read. No labels.
    Related: `AttentionTransfer` compares layer by layer.
    Example: `CrossEntropy() + 0.1 * FSP(("layer1", "layer2"), ("layer1", "layer2"))`

    Args:
        student_layer: two or more names in order, or "auto": a layer for each stage.
        teacher_layer: likewise.
        student_layout: how to read the student's features; by default from their number of axes.
        teacher_layout: how to read the teacher's features.
        seed: of the projectors' initial weights.
    """

    seed: int = 0
    projectors: tuple[Projector, ...] = field(default=(), init=False, repr=False, compare=False)

    def losses(self, pairs: Sequence[Pair], numbers: Sequence[Tensor | int]) -> Tensor:
        """As in `MapTerm`."""
        mine, theirs = [], []
        for (student, teacher), projector in zip(
            pairs, self.projectors or (None,) * len(pairs), strict=True
        ):
            first, other = self._first(student, teacher)
            if projector is None and first.shape[1] != other.shape[1]:
                raise HandshakeError(
                    f"`{self.name}` has no projector yet from {first.shape[1]} features to "
                    f"{other.shape[1]}; call `objective.bind(student, teacher)` with one batch."
                )
            mine.append(first if projector is None else projector(first, _like(first, other))[0])
            theirs.append(other)
        losses = [
            (_flow(*student, number) - _flow(*teacher, number)).square().sum(dim=(1, 2))
            for student, teacher, number in zip(
                pairwise(mine), pairwise(theirs), numbers[1:], strict=True
            )
        ]
        total = losses[0]
        for each in losses[1:]:
            total = total + each
        return total

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with projectors where widths differ.

        Raises:
            HandshakeError: fewer than two layers a side, or one without positions.
        """
        MapTerm.bind(self, student, teacher)
        if len(self.pairs()) < 2:
            raise HandshakeError(
                f"`{self.name}` goes from one layer to another, and there is one a side: "
                f"{self.pairs()[0]}; name two or more of each."
            )
        bound = replace(self)
        made = []
        for number in range(len(self.pairs())):
            first, other = self._first(*self.features(student, teacher, number))
            made.append(self._projector(first, other, number))
        object.__setattr__(bound, "projectors", tuple(made))
        return bound

    def parts(self) -> nn.Module | None:
        """The projectors that have anything to learn, once bound."""
        learning = [each for each in self.projectors if not each.is_identity]
        return nn.ModuleList(learning) if learning else None

    def describe(self, student: Signals, teacher: Signals) -> Iterator[str]:
        """As in `LayerTerm`, with the projectors once bound."""
        lines = MapTerm.describe(self, student, teacher)
        for line, projector in zip(lines, self.projectors, strict=False):
            yield (
                line
                if projector.is_identity
                else line.replace("no projector", projector.describe().partition(": ")[2])
            )

    def _first(self, student: Tensor, teacher: Tensor) -> Pair:
        mine = layout_of(student.shape, given=self.student_layout)
        theirs = layout_of(teacher.shape, given=self.teacher_layout)
        return features_first(student, mine), features_first(teacher, theirs)

    def _projector(self, first: Tensor, other: Tensor, number: int) -> Projector:
        layout = Layout.MAP if first.ndim == 4 else Layout.SIGNAL
        return Projector(
            first,
            _like(first, other),
            student_layout=layout,
            teacher_layout=layout,
            seed=self.seed + number,
        )


def _like(first: Tensor, other: Tensor) -> Tensor:
    """As many features as the teacher has, at the student's positions."""
    return other.new_empty((1,)).expand(len(first), other.shape[1], *first.shape[2:])


def _flow(first: Tensor, second: Tensor, number: Tensor | int) -> Tensor:
    grid = [min(sizes) for sizes in zip(first.shape[2:], second.shape[2:], strict=True)]
    first, second = _largest(first, grid), _largest(second, grid)
    number = number if isinstance(number, Tensor) else first.shape[2:].numel()
    return flow(first.flatten(2), second.flatten(2), number)


def _largest(feature: Tensor, grid: list[int]) -> Tensor:
    if list(feature.shape[2:]) == grid:
        return feature
    if len(grid) == 1:
        return F.adaptive_max_pool1d(feature, grid[0])
    return F.adaptive_max_pool2d(feature, (grid[0], grid[1]))
