"""Sounds as whole numbers: resampling, one length for all, sequences made of single words.

Waves are int16, one channel, as WAV files hold them; what a model is given is divided by 32768.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import final

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError, RecipeError

FULL_SCALE = 32768.0
"""What int16 is divided by to lie within -1 … 1."""

Wave = NDArray[np.int16]


def resampled(wave: Wave, *, source: int, target: int) -> Wave:
    """The same sound at another rate, by a polyphase filter (`scipy.signal.resample_poly`).

    Args:
        wave: `[L]`.
        source: samples a second that it was recorded with.
        target: samples a second that it is to have.
    """
    if source == target or not len(wave):
        return wave
    from scipy.signal import resample_poly

    shared = gcd(source, target)
    values = resample_poly(wave.astype(np.float64), target // shared, source // shared)
    return to_int16(values / FULL_SCALE)


def to_int16(values: NDArray[np.floating]) -> Wave:
    """Of -1 … 1, rounded; what is louder is cut."""
    scaled = np.rint(np.asarray(values, dtype=np.float64) * FULL_SCALE)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def check_waves(waves: Sequence[Wave], *, part: str) -> None:
    """Raise `DataError` for a part without sounds, or a sound without samples."""
    if not waves:
        raise DataError(f"The {part} part has no sounds; give at least one.")
    empty = [row for row, wave in enumerate(waves) if not len(wave)]
    if empty:
        raise DataError(
            f"The sound in row {empty[0]} of the {part} part is empty ({len(empty)} such rows in "
            "all); remove these rows."
        )


def windows(waves: Sequence[Wave], length: int) -> tuple[NDArray[np.int16], int]:
    """`[N, 1, length]` with each sound in the middle of silence, and how many were cut.

    Of what is longer, both ends are left out alike.
    """
    found = np.zeros((len(waves), 1, length), dtype=np.int16)
    for row, wave in enumerate(waves):
        skipped = max(0, len(wave) - length) // 2
        kept = wave[skipped : skipped + length]
        start = (length - len(kept)) // 2
        found[row, 0, start : start + len(kept)] = kept
    return found, sum(len(wave) > length for wave in waves)


def planes(waves: Sequence[Wave], length: int) -> NDArray[np.int16]:
    """`[N, 2, length]`: the wave, padded at its end, and 1 where there is sound."""
    found = np.zeros((len(waves), 2, length), dtype=np.int16)
    for row, wave in enumerate(waves):
        kept = wave[:length]
        found[row, 0, : len(kept)] = kept
        found[row, 1, : len(kept)] = 1
    return found


@final
@dataclass(frozen=True, kw_only=True)
class Joining:
    """How recordings of single words become sequences.

    Args:
        words: fewest and most words in a sequence.
        pause: shortest and longest silence between words, seconds.
        count: sequences made for each part.
        seed: of what is drawn.
    """

    words: tuple[int, int]
    pause: tuple[float, float]
    count: dict[str, int]
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.words
        if not 1 <= low <= high:
            raise RecipeError(f"`join.words: [{low}, {high}]` must rise from 1 or more.")
        if not 0 <= self.pause[0] <= self.pause[1]:
            raise RecipeError(
                f"`join.pause: {list(self.pause)}` must rise from 0 or more, in seconds."
            )

    def sequences(
        self, waves: Sequence[Wave], words: Sequence[str], *, part: str, rate: int
    ) -> tuple[list[Wave], list[str]]:
        """Sounds and their texts, drawn from the recordings of this part alone."""
        chance = np.random.default_rng([self.seed, sum(map(ord, part))])
        joined, texts = [], []
        for _ in range(self.count.get(part, len(waves))):
            number = int(chance.integers(self.words[0], self.words[1] + 1))
            chosen = chance.integers(0, len(waves), number)
            pieces: list[Wave] = []
            for place, row in enumerate(chosen):
                if place:
                    pause = float(chance.uniform(*self.pause))
                    pieces.append(np.zeros(round(pause * rate), dtype=np.int16))
                pieces.append(waves[int(row)])
            joined.append(np.concatenate(pieces))
            texts.append(" ".join(words[int(row)] for row in chosen))
        return joined, texts
