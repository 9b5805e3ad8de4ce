"""`compress.json`: every way at one size, with and without the teacher, and what is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from potstill.measure.summary import summarise
from potstill.pipeline.compression.options import Way
from potstill.pipeline.compression.plan import SLACK, Plan, Planned

Tree = Mapping[str, object]


@final
@dataclass(frozen=True, kw_only=True)
class Made:
    """A file that a way gave with one seed."""

    seed: int
    file: str
    bytes: int
    parameters: int
    flops: int | None
    epochs: int
    seconds: float
    validation: float
    test: Mapping[str, float]
    lost_by_rounding: float | None = None
    trained_quantised: bool = False
    kept_in_float: Sequence[str] = ()
    zipped_bytes: int | None = None
    zeros: float | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """All seeds of a way, with the teacher or without."""

    planned: Planned
    taught: bool
    made: tuple[Made, ...]

    @property
    def key(self) -> str:
        """Its name among all rows."""
        return f"{self.planned.way} {'with' if self.taught else 'without'}"

    def best(self, *, higher: bool) -> Made:
        """The seed that is best on validation data; that one is timed."""
        return max(self.made, key=lambda one: one.validation * (1 if higher else -1))

    def values(self, metric: str) -> list[float]:
        """Of the test data, by seed."""
        return [one.test[metric] for one in self.made]


@final
@dataclass(frozen=True, kw_only=True)
class Reference:
    """A model that ways are compared with: its file, and its figures on the test data."""

    bytes: int | None
    parameters: int | None
    test: Mapping[str, Sequence[float]]


def record_of(
    plan: Plan,
    rows: Sequence[Row],
    references: Mapping[str, Reference],
    latency: Mapping[str, Mapping[str, object]],
    *,
    primary: str,
    higher: bool,
    about: Tree,
) -> dict[str, object]:
    """The content of `compress.json`."""
    known = {name: _reference(r, latency.get(name)) for name, r in references.items()}
    ways = [_way(plan, row, latency, known["teacher"], primary, higher=higher) for row in rows]
    skipped = [
        {"way": str(p.way), "nearest_bytes": p.nearest or None, "why": p.obstacle}
        for p in plan.ways
        if not p.is_gone
    ]
    return {
        "target_bytes": plan.target,
        "primary": primary,
        "higher_is_better": higher,
        **about,
        "references": known,
        "ways": _with_front(ways, primary, higher=higher),
        "skipped": skipped,
        "due_to_teacher": _due(rows, primary, higher=higher),
        "best": _best(rows, plan, higher=higher),
    }


def _reference(reference: Reference, latency: object) -> dict[str, object]:
    return {
        "bytes": reference.bytes,
        "parameters": reference.parameters,
        "latency_ms": latency,
        "test": {name: summarise(list(values)) for name, values in reference.test.items()},
    }


def _way(
    plan: Plan,
    row: Row,
    latency: Mapping[str, Mapping[str, object]],
    teacher: Tree,
    primary: str,
    *,
    higher: bool,
) -> dict[str, object]:
    shipped = row.best(higher=higher)
    size = round(sum(one.bytes for one in row.made) / len(row.made))
    test = {name: summarise(row.values(name)) for name in row.made[0].test}
    theirs = teacher["test"]
    assert isinstance(theirs, Mapping), "`_reference` made it"
    time = latency.get(row.key)
    return {
        "way": str(row.planned.way),
        "teacher": row.taught,
        "reaches": size <= plan.target * SLACK,
        "bytes": size,
        "zipped_bytes": shipped.zipped_bytes,
        "zeros": shipped.zeros,
        "parameters": shipped.parameters,
        "flops": shipped.flops,
        "compression": _ratio(teacher["bytes"], size),
        "latency_ms": time,
        "speedup": _ratio(_p50(teacher["latency_ms"]), _p50(time)),
        "validation": summarise([one.validation for one in row.made]),
        "test": test,
        "retention": _ratio(test[primary]["mean"], theirs[primary]["mean"]),
        "epochs": shipped.epochs,
        "train_seconds": sum(one.seconds for one in row.made) / len(row.made),
        "lost_by_rounding": shipped.lost_by_rounding,
        "trained_quantised": [one.seed for one in row.made if one.trained_quantised],
        "kept_in_float": {str(one.seed): list(one.kept_in_float) for one in row.made},
        "shipped_seed": shipped.seed,
        "files": {str(one.seed): one.file for one in row.made},
    }


def _with_front(
    ways: Sequence[dict[str, object]], primary: str, *, higher: bool
) -> list[dict[str, object]]:
    """The rows, each saying whether no other is at least as good, as small and as fast."""
    points = [_point(way, primary, higher=higher) for way in ways]
    return [
        {**way, "on_front": not any(_beats(other, mine) for other in points)}
        for way, mine in zip(ways, points, strict=True)
    ]


_Point = tuple[float, ...]


def _point(way: Tree, primary: str, *, higher: bool) -> _Point:
    test, time, size = way["test"], _p50(way["latency_ms"]), way["bytes"]
    assert isinstance(test, Mapping), "`_way` made it"
    assert isinstance(size, int), "`_way` made it"
    quality = float(test[primary]["mean"])
    return (-quality if higher else quality, float(size), time or 0.0)


def _beats(one: _Point, other: _Point) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _due(rows: Sequence[Row], primary: str, *, higher: bool) -> list[dict[str, object]]:
    """How much better each way is with the teacher, paired over seeds."""
    found: list[dict[str, object]] = []
    sign = 1 if higher else -1
    without = {row.planned.way: row for row in rows if not row.taught}
    for row in rows:
        other = without.get(row.planned.way)
        if not row.taught or other is None:
            continue
        pairs = zip(row.values(primary), other.values(primary), strict=True)
        gains = [sign * (mine - theirs) for mine, theirs in pairs]
        found.append({"way": str(row.planned.way), "gain": summarise(gains)})
    return found


def _best(rows: Sequence[Row], plan: Plan, *, higher: bool) -> dict[str, object] | None:
    """Of those that meet the size, the best on validation data."""
    sign = 1 if higher else -1
    met = [r for r in rows if all(one.bytes <= plan.target * SLACK for one in r.made)]
    if not met:
        return None
    best = max(met, key=lambda r: sign * sum(one.validation for one in r.made) / len(r.made))
    return {"way": str(best.planned.way), "teacher": best.taught,
            "file": best.best(higher=higher).file}  # fmt: skip


def _ratio(whole: object, part: object) -> float | None:
    if not isinstance(whole, int | float) or not isinstance(part, int | float) or part == 0:
        return None
    return whole / part


def _p50(latency: object) -> float | None:
    if not isinstance(latency, Mapping):
        return None
    found = latency["p50"]
    return float(found) if isinstance(found, int | float) else None


WAYS = tuple(str(way) for way in Way)
