"""Easy samples first: what an epoch shows, by how sure the teacher is of each sample."""

from dataclasses import dataclass
from enum import StrEnum
from typing import final

import torch
from torch import Tensor

from potstill.errors import RecipeError


class Pick(StrEnum):
    """What a curriculum does with samples that are still too hard."""

    PICK = "pick"  # leaves them out, and shows the others more often: epochs stay as long
    WEIGH = "weigh"  # shows them, and they count less


@final
@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """The share of samples that an epoch learns from rises linearly, the easiest first.

    Epoch e of E takes the samples whose rank of ease is within
    `start + (1 - start) * min(1, e / (until * E))` of all.
    Bengio et al. 2009; with a teacher's confidence as ease: Hacohen and Weinshall 2019,
    arXiv:1904.03626.

    Args:
        how: see `Pick`.
        start: share of the samples in the first epoch, above 0.
        until: share of the epochs after which all samples count alike.
        floor: of `weigh`, what a sample counts that is still too hard.
    """

    how: Pick = Pick.PICK
    start: float = 0.3
    until: float = 0.5
    floor: float = 0.1

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("start", 0 < self.start <= 1, "above 0, up to 1"),
            ("until", 0 < self.until <= 1, "above 0, up to 1"),
            ("floor", 0 <= self.floor <= 1, "from 0 to 1"),
        ):
            if not ok:
                raise RecipeError(
                    f"`curriculum.{name}` is {getattr(self, name)!r}; give a share {expected}."
                )

    def share(self, epoch: int, epochs: int) -> float:
        """Of the samples, how many an epoch (from 0) learns from."""
        over = min(1.0, epoch / max(self.until * epochs, 1e-9))
        return self.start + (1 - self.start) * over


@final
@dataclass(frozen=True, eq=False)
class Pacing:
    """A curriculum over known samples.

    Args:
        curriculum: how.
        rank_N: `[N]` int64, 0 for the easiest sample; see `ranks`.
        epochs: how many there will be.
    """

    curriculum: Curriculum
    rank_N: Tensor
    epochs: int

    def _easy(self, epoch: int) -> Tensor:
        count = round(self.curriculum.share(epoch, self.epochs) * len(self.rank_N))
        return self.rank_N < max(1, count)

    def order(self, order_N: Tensor, epoch: int) -> Tensor:
        """`[N]` rows: the easy ones in their order, again and again until there are as many."""
        if self.curriculum.how is not Pick.PICK:
            return order_N
        easy = order_N[self._easy(epoch)[order_N]]
        return easy.repeat(-(-len(order_N) // len(easy)))[: len(order_N)]

    def weights(self, epoch: int) -> Tensor | None:
        """`[N]` float32, what each sample counts; `None` where all count alike."""
        if self.curriculum.how is not Pick.WEIGH:
            return None
        return torch.where(self._easy(epoch), 1.0, self.curriculum.floor)


def ranks(confidence_N: Tensor) -> Tensor:
    """`[N]` int64, the place of each sample when the surest comes first; ties keep their order."""
    order = torch.argsort(-confidence_N, stable=True)
    rank_N = torch.empty_like(order)
    rank_N[order] = torch.arange(len(order))
    return rank_N
