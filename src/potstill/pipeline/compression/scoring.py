"""A file's own answers, scored; and what is known of a file that was made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import nn

from potstill.pipeline.compression.files import InFile
from potstill.pipeline.compression.squeezing import Piece
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.train.evaluate import answers_of, score


@final
@dataclass(frozen=True, kw_only=True)
class Filed:
    """A file, the piece it was made of, and what 8 bits did to it.

    Args:
        piece: with what its trainings took.
        validation: the primary metric of the file's own answers.
        lost: of the metric, by rounding after training; positive is worse, `None` in float32.
        trained: whether it was trained for 8 bits.
        kept: layers that stayed in float32 because 8 bits hurt them.
    """

    piece: Piece
    validation: float
    lost: float | None = None
    trained: bool = False
    kept: tuple[str, ...] = ()


def asked(shop: Workshop, path: Path) -> Teacher:
    """A file, to be asked about batches of the run."""
    return InFile(path, texts=shop.experiment.data.normalise.tokens)


def primary_of(shop: Workshop, source: nn.Module | Teacher) -> float:
    """The metric that selects, on validation data."""
    e = shop.experiment
    if isinstance(source, nn.Module):
        source.to(shop.runtime.device)
    found = score(answers_of(source, shop.feed(e.data.validation), e.task), e.task)
    return found[e.task.primary]


def tests_of(shop: Workshop, source: nn.Module | Teacher) -> Mapping[str, float]:
    """All metrics on the test data."""
    e = shop.experiment
    with torch.no_grad():
        return score(answers_of(source, shop.feed(e.data.test), e.task), e.task)


def tests_of_all(shop: Workshop, sources: Iterable[nn.Module | Teacher]) -> dict[str, list[float]]:
    """All metrics on the test data, of each source in turn."""
    said = [tests_of(shop, source) for source in sources]
    return {metric: [values[metric] for values in said] for metric in said[0]}


def behind(shop: Workshop, value: float, other: float) -> float:
    """By how much a value of the primary metric is worse than another; below 0 it is better."""
    return (other - value) * (1 if shop.experiment.task.higher_is_better else -1)
