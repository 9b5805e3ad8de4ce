"""What a student wrote earlier, kept to learn from again, and how much of it a step takes.

After DistiLLM (Ko et al. 2024, arXiv:2402.03898, §3.2): the share of on-policy samples rises when
the validation loss does, and the share of them that is written anew falls linearly to nothing.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor

from potstill.errors import RecipeError


@final
@dataclass(frozen=True, kw_only=True)
class Replay:
    """Whether what the student writes is used again, and how the share of it moves.

    Args:
        capacity: samples that are kept; the oldest one makes room.
        rise: what is added to the on-policy fraction, up to 1, at a validation whose loss is higher
            than the last one's by at least `tolerance`.
        tolerance: in nats a token.

    Raises:
        RecipeError: a value out of range.
    """

    capacity: int = 1000
    rise: float = 0.1
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("capacity", self.capacity >= 1, "at least 1"),
            ("rise", 0 <= self.rise <= 1, "from 0 to 1"),
            ("tolerance", self.tolerance >= 0, "0 or more"),
        ):
            if not ok:
                raise RecipeError(f"`{name}` is {getattr(self, name)!r}; it must be {expected}.")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A prompt with what the student wrote behind it, on the CPU.

    Args:
        tokens: `[L]` int64, both.
        start: how many of them are the prompt.
        logprobs: `[L - start]` float32, of each written token when it was drawn; `None` if none
            was drawn.
    """

    tokens: Tensor
    start: int
    logprobs: Tensor | None


@final
class Buffer:
    """The state of a `Replay`: samples, the present fraction, the last validation loss."""

    def __init__(self, replay: Replay, *, fraction: float) -> None:
        self._replay, self.fraction = replay, fraction
        self._samples: deque[Sample] = deque(maxlen=replay.capacity)
        self._loss: float | None = None

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> Sample:
        return self._samples[place]

    @property
    def is_full(self) -> bool:
        """Whether the next sample takes the place of another."""
        return len(self._samples) == self._replay.capacity

    def add(self, sample: Sample) -> None:
        """Keep a sample."""
        self._samples.append(sample)

    def validated(self, loss: float) -> None:
        """Hear a validation loss, in nats a token."""
        if self._loss is not None and loss >= self._loss + self._replay.tolerance:
            self.fraction = min(1.0, self.fraction + self._replay.rise)
        self._loss = loss

    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        samples = [(s.tokens, s.start, s.logprobs) for s in self._samples]
        return {"samples": samples, "fraction": self.fraction, "loss": self._loss}

    def load(self, state: Mapping[str, object]) -> None:
        """From a checkpoint."""
        samples, fraction, loss = state["samples"], state["fraction"], state["loss"]
        assert isinstance(samples, list), "as `state` wrote it"
        assert isinstance(fraction, float), "as `state` wrote it"
        assert loss is None or isinstance(loss, float), "as `state` wrote it"
        self._samples.clear()
        self._samples.extend(Sample(*sample) for sample in samples)
        self.fraction, self._loss = fraction, loss
