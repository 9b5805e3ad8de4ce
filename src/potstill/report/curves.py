"""Training histories as curves over epochs: the mean of the seeds, their band, each best epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from potstill.report.folder import Logged

Selected: TypeAlias = Mapping[str, Mapping[int, int]]
NOTHING_SELECTED: Final[Selected] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class SeedCurve:
    """One seed: its values and the epoch that its weights were taken from."""

    seed: int
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    best: int  # a position in `epochs`


@dataclass(frozen=True, kw_only=True)
class Curve:
    """All seeds of a role. Mean and band reach as far as the shortest seed does."""

    role: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: tuple[SeedCurve, ...]


def role_curves(
    history: Sequence[Logged],
    *,
    split: str,
    metric: str | None,
    higher_is_better: bool,
    selected: Selected = NOTHING_SELECTED,
) -> tuple[Curve, ...]:
    """The curve of each role that logged it.

    Args:
        history: of the run.
        split: `train` or `validation`.
        metric: its name; `None` reads the loss.
        higher_is_better: the direction of the metric.
        selected: role → seed → the epoch that weights were taken from; where it is not known,
            the first of the best epochs is meant.
    """
    found: dict[str, dict[int, dict[int, float]]] = {}
    for line in history:
        value = line.loss if metric is None else line.metrics.get(metric)
        if line.split == split and value is not None:
            found.setdefault(line.role, {}).setdefault(line.seed, {})[line.epoch] = value
    return tuple(
        _curve(role, seeds, up=higher_is_better, selected=selected.get(role, {}))
        for role, seeds in found.items()
    )


def _curve(
    role: str, by_seed: dict[int, dict[int, float]], *, up: bool, selected: Mapping[int, int]
) -> Curve:
    seeds = tuple(
        _seed(seed, points, up=up, selected=selected.get(seed))
        for seed, points in sorted(by_seed.items())
    )
    shared = sorted(set.intersection(*(set(points) for points in by_seed.values())))
    columns = [[points[epoch] for points in by_seed.values()] for epoch in shared]
    return Curve(
        role=role,
        epochs=tuple(shared),
        mean=tuple(sum(column) / len(column) for column in columns),
        low=tuple(min(column) for column in columns),
        high=tuple(max(column) for column in columns),
        seeds=seeds,
    )


def _seed(seed: int, points: dict[int, float], *, up: bool, selected: int | None) -> SeedCurve:
    epochs = tuple(sorted(points))
    values = tuple(points[epoch] for epoch in epochs)
    best = max(range(len(values)), key=lambda i: values[i] if up else -values[i])
    if selected in epochs:
        best = epochs.index(selected)
    return SeedCurve(seed=seed, epochs=epochs, values=values, best=best)
