"""The base of terms on how the samples of a batch relate: a vector a sample, of any width.

Shapes: B samples, D features of the student, E of the teacher.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.features.layout import features_first, layout_of
from potstill.features.pairing import Wanted
from potstill.functional.reductions import keep_rows, upcast
from potstill.losses.layers import LayerTerm, positions_of
from potstill.signals import Partial, Signals, Target

Made = TypeVar("Made")


@dataclass(frozen=True, repr=False)
class BatchTerm(LayerTerm):
    """A comparison of batches of vectors, one a sample; the sum over pairs of layers.

    A subclass writes `value`. Maps and tokens are averaged over their positions (of texts, over
    those that are no padding) unless it reads them otherwise.
    """

    batchwise: ClassVar[bool] = True
    wanted: ClassVar[Wanted] = Wanted.VECTOR

    @abstractmethod
    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """What one pair of layers adds, `[]`: a mean over the batch, 0 where both relate alike.

        Args:
            student_BD: zeros in rows that do not count.
            teacher_BE: constant, likewise.
            mask_B: which rows count; `None` means all.
            number: of the pair.
        """

    def read(self, feature: Tensor, positions_BL: Tensor | None) -> Tensor:
        """One vector a sample, `[B, D]`, of a feature `[B, D, *positions]`."""
        return averaged_over(feature, positions_BL)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The value times the rows that count, and how many these are."""
        self.check_named()
        count = self.count(target)
        values = [
            self._value(student, teacher, target, number) for number in range(len(self.pairs()))
        ]
        total = values[0]
        for each in values[1:]:
            total = total + each
        return Partial(total * count, count)

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """Itself, once there are rows to compare.

        Raises:
            HandshakeError: a layer is missing, or the batch is one sample.
        """
        self.check_named()
        for number in range(len(self.pairs())):
            mine, _ = self.features(student, teacher, number)
            if len(mine) < 2:
                raise HandshakeError(
                    f"`{self.name}` compares the samples of a batch, and this batch has one; use "
                    "batches of 32 or more."
                )
        return self

    def widths(self, student: Signals, teacher: Signals, number: int) -> tuple[int, int]:
        """How many features the vectors of a pair have."""
        empty = Target(0)
        features = self.features(student, teacher, number)
        layouts = self.student_layout, self.teacher_layout
        mine, theirs = (
            self._vectors(feature, layout, empty, None).shape[1]
            for feature, layout in zip(features, layouts, strict=True)
        )
        return mine, theirs

    def made(self, parts: tuple[Made, ...]) -> tuple[Made, ...]:
        """Learnable parts; `HandshakeError` before they are made."""
        if not parts:
            raise HandshakeError(
                f"`{self.name}` has no learnable parts yet; call `objective.bind(student, teacher)`"
                " with one batch."
            )
        return parts

    def _value(self, student: Signals, teacher: Signals, target: Target, number: int) -> Tensor:
        mine, theirs = self.features(student, teacher, number)
        mask_B = target.mask(labels=False) if len(mine) == target.num_rows else None
        with torch.autocast(mine.device.type, enabled=False):
            return self.value(
                self._vectors(mine, self.student_layout, target, mask_B),
                self._vectors(theirs, self.teacher_layout, target, mask_B),
                mask_B,
                number,
            )

    def _vectors(
        self, feature: Tensor, layout: str | None, target: Target, mask_B: Tensor | None
    ) -> Tensor:
        first = features_first(feature, layout_of(feature.shape, given=layout))
        return self.read(keep_rows(upcast(first), mask_B), positions_of(first, target))


def averaged_over(feature: Tensor, positions_BL: Tensor | None) -> Tensor:
    """`[B, D]`: the mean over the positions that count of a feature `[B, D, *positions]`."""
    if feature.ndim == 2:
        return feature
    if positions_BL is None:
        return feature.flatten(2).mean(dim=2)
    kept = torch.where(positions_BL[:, None], feature, 0)
    return kept.sum(dim=2) / positions_BL.sum(dim=1, keepdim=True).clamp(min=1)
