"""Terms on statistics of activation maps: where a layer answers, with what, and how it flows on.

Shapes: B samples, C and D features, then positions. Widths may differ between the models, and no
projector is needed unless a term says so.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.features.layout import (
    Layout,
    features_first,
    layout_of,
    on_common_positions,
)
from potstill.features.matcher import averaged_down
from potstill.features.pairing import Wanted
from potstill.functional.reductions import keep_rows, upcast
from potstill.functional.similarity import unit
from potstill.functional.statistics import attention_map, selectivity_discrepancy
from potstill.losses.checks import check_choice, check_number, check_whole
from potstill.losses.layers import LayerTerm, positions_of, total_of
from potstill.signals import Partial, Signals, Target

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, repr=False)
class MapTerm(LayerTerm):
    """A comparison of statistics of layers with positions, sample by sample.

    A subclass writes `losses`. Padding of texts is 0 in what it is given.
    """

    wanted: ClassVar[Wanted] = Wanted.STAGES

    @abstractmethod
    def losses(self, pairs: Sequence[Pair], numbers: Sequence[Tensor | int]) -> Tensor:
        """The loss of each sample, `[B]`, 0 where the statistics are equal.

        Args:
            pairs: for each pair of layers the student's and the teacher's feature as they came, but
                without what does not count.
            numbers: for each pair, how many positions of a sample count.
        """

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over samples, and how many rows count."""
        self.check_named()
        count = self.count(target)
        pairs, numbers = [], []
        mask_B = None
        for number in range(len(self.pairs())):
            mine, theirs = self.features(student, teacher, number)
            mask_B = target.mask(labels=False) if len(mine) == target.num_rows else None
            mine, positions = self._counting(mine, self.student_layout, target, mask_B)
            theirs, _ = self._counting(theirs, self.teacher_layout, target, mask_B)
            pairs.append((mine, theirs))
            numbers.append(positions)
        with torch.autocast(pairs[0][0].device.type, enabled=False):
            return Partial(total_of(self.losses(pairs, numbers), target, mask_B, count), count)

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """Itself, once all layers are found to have positions.

        Raises:
            HandshakeError: a layer is missing or has no positions.
        """
        self.check_named()
        for number, names in enumerate(self.pairs()):
            for name, feature in zip(names, self.features(student, teacher, number), strict=True):
                if feature.ndim < 3:
                    raise HandshakeError(
                        f"`{self.name}` reads maps or tokens, and `{name}` gives "
                        f"{list(feature.shape)}; name a layer before the pooling, or use a term on "
                        "vectors, such as pkt."
                    )
        return self

    def on_common_grid(self, student: Tensor, teacher: Tensor) -> Pair:
        """Both features first, on the smaller grid along each axis, by averages."""
        mine, theirs = on_common_positions(
            student,
            teacher,
            student_layout=layout_of(student.shape, given=self.student_layout),
            teacher_layout=layout_of(teacher.shape, given=self.teacher_layout),
        )
        return averaged_down(mine, theirs.shape[2:]), averaged_down(theirs, mine.shape[2:])

    def _counting(
        self, feature: Tensor, layout: Layout | str | None, target: Target, mask_B: Tensor | None
    ) -> tuple[Tensor, Tensor | int]:
        """The feature with 0 where nothing counts, and how many positions do."""
        feature = keep_rows(upcast(feature), mask_B)
        found = layout_of(feature.shape, given=layout)
        first = features_first(feature, found)
        positions_BL = positions_of(first, target)
        if positions_BL is None:
            return feature, first.shape[2:].numel()
        axis = 2 if found is Layout.TOKENS else 1
        return torch.where(positions_BL.unsqueeze(axis), feature, 0), positions_BL.sum(dim=1)


class Form(StrEnum):
    """How two attention maps are compared."""

    NORM = "norm"
    SQUARED = "squared"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class AttentionTransfer(MapTerm):
    r"""Answer strongly where the teacher does.

    Formula: $\sum_\ell \|\hat Q^s_\ell - \hat Q^t_\ell\|_2$, $\hat Q = Q / \|Q\|_2$ over positions,
        $Q = \sum_d |A_d|^p$; with "squared" $\sum_\ell \mathrm{mean}\,(\hat Q^s_\ell - \hat
        Q^t_\ell)^2$ over positions.
    Shapes: maps `[B, D, H, W]`, signals or tokens; features and positions may differ. The larger
        map is averaged down to the smaller one.
    Paper: Zagoruyko and Komodakis 2017, arXiv:1612.03928 (equation 2: the norm, times β/2); their
        code, and most that follows it, has the mean of squares: "squared", there with β = 1000.
    Requires: two models whose layers can be read. No labels.
    Related: `NST` compares what each feature answers; `AttentionKL` is on transformers' attention.
    Example: `CrossEntropy() + 1000 * AttentionTransfer(form="squared")`

    Args:
        student_layer: name, names in order, or "auto": a layer for each stage.
        teacher_layer: likewise.
        student_layout: how to read the student's features; by default from their number of axes.
        teacher_layout: how to read the teacher's features.
        power: p, above 0.
        form: "norm" (the paper) or "squared" (the code).
    """

    power: float = 2.0
    form: Form | str = Form.NORM

    def __post_init__(self) -> None:
        MapTerm.__post_init__(self)
        check_number(self, "power", self.power, above=0)
        object.__setattr__(self, "form", check_choice(self, "form", self.form, Form))

    def losses(self, pairs: Sequence[Pair], numbers: Sequence[Tensor | int]) -> Tensor:
        """As in `MapTerm`."""
        return _added(
            self._loss(*pair, number) for pair, number in zip(pairs, numbers, strict=True)
        )

    def _loss(self, student: Tensor, teacher: Tensor, number: Tensor | int) -> Tensor:
        grids = self.on_common_grid(self._map(student, "student"), self._map(teacher, "teacher"))
        mine_BP, theirs_BP = (unit(grid.flatten(1)) for grid in grids)
        squares_B = (mine_BP - theirs_BP).square().sum(dim=1)
        if self.form == Form.SQUARED:
            return squares_B / (number if isinstance(number, Tensor) else mine_BP.shape[1])
        apart_B = squares_B > 0  # the norm has no gradient at 0
        return torch.where(apart_B, torch.where(apart_B, squares_B, 1).sqrt(), 0)

    def _map(self, feature: Tensor, side: str) -> Tensor:
        """The attention map in the layout of its feature, so that grids are matched alike."""
        layout = layout_of(feature.shape, given=getattr(self, f"{side}_layout"))
        last = layout in (Layout.TOKENS, Layout.MAP_LAST)
        found = attention_map(features_first(feature, layout), power=self.power)
        return found.movedim(1, -1) if last else found


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class NST(MapTerm):
    r"""Have features that answer in the places where some of the teacher's do.

    Formula: $\sum_\ell$ of $\frac{1}{C_t^2} \sum k(t_i, t_{i'}) + \frac{1}{C_s^2} \sum k(s_j,
        s_{j'}) - \frac{2}{C_t C_s} \sum k(t_i, s_j)$ for each sample, with $k(x, y) = (x^\top y +
        c)^d$ and x, y what one feature answers over all positions, at length 1.
    Shapes: maps `[B, D, H, W]`, signals or tokens; features and positions may differ. The larger
        grid is averaged down to the smaller one.
    Paper: Huang and Wang 2017, arXiv:1707.01219 (equations 5 and 7; d = 2, c = 0).
    Requires: two models whose layers can be read. No labels.
    Related: `AttentionTransfer` adds the features up first, and costs less.
    Example: `CrossEntropy() + 50 * NST()`

    Args:
        student_layer: name, names in order, or "auto": a layer for each stage.
        teacher_layer: likewise.
        student_layout: how to read the student's features; by default from their number of axes.
        teacher_layout: how to read the teacher's features.
        degree: d, 1 or more.
        constant: c, 0 or more.
    """

    degree: int = 2
    constant: float = 0.0

    def __post_init__(self) -> None:
        MapTerm.__post_init__(self)
        check_whole(self, "degree", self.degree, at_least=1)
        check_number(self, "constant", self.constant, at_least=0)

    def losses(self, pairs: Sequence[Pair], numbers: Sequence[Tensor | int]) -> Tensor:
        """As in `MapTerm`."""
        grids = (self.on_common_grid(*pair) for pair in pairs)
        return _added(
            selectivity_discrepancy(
                mine.flatten(2), theirs.flatten(2), degree=self.degree, constant=self.constant
            )
            for mine, theirs in grids
        )


def _added(losses: Iterator[Tensor]) -> Tensor:
    total = next(losses)
    for each in losses:
        total = total + each
    return total
