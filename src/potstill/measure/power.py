"""Energy of a thousand predictions: by the processor's counters, by codecarbon, or by given watts.

All three are estimates: counters are those of the whole package, with whatever else runs on it;
codecarbon takes what counters do not say from rated power and load; given watts are a product.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from potstill.measure.energy import is_available, metered
from potstill.measure.latency import Samples

COUNTERS = Path("/sys/class/powercap")
MICROJOULES_PER_WH = 3.6e9
SECONDS_PER_HOUR = 3600.0


class EnergyPerThousand(TypedDict):
    """`wh` of 1,000 predictions, an estimate; `None` where nothing can be said.

    `method` is `counters`, `codecarbon` or `watts`.
    """

    wh: float | None
    method: str | None
    predictions: int
    seconds: float
    estimate: bool


def energy_per_thousand(
    call: Callable[[Samples], object],
    batches: Sequence[Samples],
    *,
    threads: int = 1,
    seconds: float = 1.0,
    watts: float | None = None,
    counters: Path = COUNTERS,
) -> EnergyPerThousand:
    """Ask a model for some seconds and say what a thousand predictions take.

    Args:
        call: the model.
        batches: asked in turn.
        threads: of BLAS and OpenMP pools.
        seconds: how long.
        watts: the power that is drawn meanwhile, if somebody knows it; no other way is tried then.
        counters: where Linux keeps the counters of energy.
    """
    readers = package_counters(counters) if watts is None else []
    before = [read(path) for path in readers]
    with (
        metered("predictions", enabled=watts is None and not readers) as meter,
        threadpool_limits(limits=threads),
    ):
        begin, predictions = time.perf_counter(), 0
        while predictions == 0 or time.perf_counter() - begin < seconds:
            batch = batches[(predictions // len(batches[0])) % len(batches)]
            call(batch)
            predictions += len(batch)
        spent = time.perf_counter() - begin
    if watts is not None:
        return _record(watts * spent / SECONDS_PER_HOUR, "watts", predictions, spent)
    if readers:
        after = [read(path) for path in readers]
        passed = [_passed(path, b, a) for path, b, a in zip(readers, before, after, strict=True)]
        return _record(sum(passed) / MICROJOULES_PER_WH, "counters", predictions, spent)
    if is_available() and meter.energy_wh is not None:
        share = spent / meter.seconds if meter.seconds else 1.0
        return _record(meter.energy_wh * share, "codecarbon", predictions, spent)
    return EnergyPerThousand(
        wh=None, method=None, predictions=predictions, seconds=spent, estimate=True
    )


def package_counters(folder: Path) -> list[Path]:
    """The counters of whole packages that this user may read; those of their parts are inside."""
    found = []
    for path in sorted(folder.glob("intel-rapl:*/energy_uj")):
        if path.parent.name.count(":") != 1:
            continue
        try:
            read(path)
        except (OSError, ValueError):
            continue
        found.append(path)
    return found


def read(path: Path) -> int:
    """Microjoules so far."""
    return int(path.read_text(encoding="ascii"))


def _passed(path: Path, before: int, after: int) -> int:
    """Between two readings; a counter begins anew at its end."""
    if after >= before:
        return after - before
    end = path.with_name("max_energy_range_uj")
    return after - before + (read(end) if end.is_file() else before)


def _record(wh: float, method: str, predictions: int, seconds: float) -> EnergyPerThousand:
    return EnergyPerThousand(
        wh=1000.0 * wh / predictions if predictions else None,
        method=method,
        predictions=predictions,
        seconds=seconds,
        estimate=True,
    )
