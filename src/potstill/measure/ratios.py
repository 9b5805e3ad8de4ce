"""How many times as fast: from calls that were timed side by side, with their spread."""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from potstill.measure.latency import Turns
from potstill.measure.summary import summarise

BLOCKS = 10


class Ratio(TypedDict):
    """`name` takes `1 / ratio` of the time that `base` takes.

    `ci95` speaks of the noise of this machine during the measurement, block by block.
    """

    base: str
    name: str
    ratio: float
    ci95: list[float] | None
    blocks: int


def time_ratios(turns: Mapping[str, Turns], base: str) -> list[Ratio]:
    """Of every model but `base`, the time that `base` takes over its own.

    The turns are cut into at most 10 blocks that follow each other, since what slows a machine
    lasts; in each block the medians of both models are divided. Equivalent to the mean of these
    ratios with Student's t interval.

    Args:
        turns: as `time_in_turns` gives them; the n-th turns of all models lay side by side.
        base: whom the others are compared with.
    """
    return [_ratio(turns[base], mine, base, name) for name, mine in turns.items() if name != base]


def _ratio(base_turns: Turns, turns: Turns, base: str, name: str) -> Ratio:
    count = min(BLOCKS, len(turns))
    pairs = zip(_medians(base_turns, count), _medians(turns, count), strict=True)
    found = summarise([over / under for over, under in pairs])
    return Ratio(base=base, name=name, ratio=found["mean"], ci95=found["ci95"], blocks=count)


def _medians(turns: Turns, count: int) -> list[float]:
    parts = np.array_split(np.arange(len(turns)), count)
    return [float(np.median(np.concatenate([turns[i] for i in part]))) for part in parts]
