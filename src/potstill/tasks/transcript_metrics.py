"""Error rates of transcripts, from what a task keeps of each sound; computed by torchmetrics."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.text import CharErrorRate, WordErrorRate


@final
class Errors(Metric):
    """Word or character error rate: edits over words (or characters) of the references.

    Equivalent to `torchmetrics.text.WordErrorRate` (`CharErrorRate`) on the decoded texts.

    Args:
        letters: of the alphabet, the blank first.
        words: whether words are counted; characters if not.
    """

    higher_is_better = False
    full_state_update = False

    def __init__(self, letters: Sequence[str], *, words: bool) -> None:
        super().__init__()
        self._letters = tuple(letters)
        self._rate = WordErrorRate() if words else CharErrorRate()

    def update(self, kept: Tensor, labels: Tensor) -> None:
        """More sounds.

        Args:
            kept: `[B, 1 + K]`, behind the first column letters, -1 behind the last.
            labels: `[B, U]` letters, -100 behind the last.
        """
        self._rate.update(self._texts(kept[:, 1:]), self._texts(labels))

    def compute(self) -> Tensor:
        """The rate, 0 or more."""
        return torch.as_tensor(self._rate.compute())

    def reset(self) -> None:
        """Forget all sounds."""
        super().reset()
        self._rate.reset()

    def _texts(self, letters_BK: Tensor) -> list[str]:
        rows = letters_BK.long().tolist()
        return ["".join(self._letters[n] for n in row if n > 0) for row in rows]


@final
class TextLikelihood(Metric):
    """Mean of -log p(text) over sounds, nats."""

    higher_is_better = False
    full_state_update = False
    total: Tensor
    number: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("number", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, kept: Tensor, labels: Tensor) -> None:
        """More sounds; those whose text cannot be said at all (infinite) are left out."""
        finite = kept[:, 0].isfinite()
        self.total += kept[:, 0][finite].double().sum()
        self.number += finite.sum()

    def compute(self) -> Tensor:
        """The mean."""
        return (self.total / self.number.clamp(min=1)).float()
