"""Measuring models on the machine at hand: every runtime, batch and number of threads in turn."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from potstill import __version__
from potstill.errors import MissingExtra, RecipeError
from potstill.measure.artefacts import Artefact, find_artefacts, samples_for
from potstill.measure.fresh import Start, middle, start_afresh
from potstill.measure.latency import (
    LatencyRecord,
    Runner,
    Samples,
    Timing,
    batches_of,
    latency_of,
    time_in_turns,
)
from potstill.measure.power import EnergyPerThousand, energy_per_thousand
from potstill.measure.profile import DeviceProfile, Figure, Measured, SettingRatio
from potstill.measure.ratios import time_ratios
from potstill.measure.runners import RUNTIMES, TORCH, answering, open_runner, prepare
from potstill.runtime.environment import installed, processor_name

MOST_CALLS = 20_000  # of a model in a setting
WARMUP_CALLS = 10


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What is measured, and how long.

    Args:
        batches: samples in one call, each in turn.
        threads: inside one call, each in turn.
        runtimes: of `onnxruntime`, `executorch`, `torch`; if left out, those that exported files
            are for, and torch where there are none.
        seconds: of latency, for all models of a setting together.
        starts: fresh processes of each model; 0 leaves start-up and memory out.
        energy_seconds: of each model in each setting; 0 leaves energy out.
        watts: the power that is drawn while a model answers, if somebody measured it.
    """

    batches: Sequence[int] = (1,)
    threads: Sequence[int] = (1,)
    runtimes: Sequence[str] | None = None
    seconds: float = 5.0
    starts: int = 3
    energy_seconds: float = 1.0
    watts: float | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.runtimes or () if name not in RUNTIMES]
        if unknown:
            raise RecipeError(f"{unknown[0]!r} is no runtime; choose among {', '.join(RUNTIMES)}.")
        for name in ("batches", "threads"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise RecipeError(
                    f"The {name} to measure are {list(values)}; give whole numbers from 1 on."
                )


def measure_models(
    given: Sequence[Path | str],
    measuring: Measuring | None = None,
    *,
    inputs: Path | str | None = None,
    name: str | None = None,
    trust: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> DeviceProfile:
    """Measure the models of runs, and files, on this machine's processor.

    In each setting (batch and threads) all models take turns, so that what slows the machine slows
    all of them. Start-up and memory are those of fresh processes, each model's in turn.

    Args:
        given: run folders, `.onnx` or `.pte` files, folders with `model.safetensors`.
        measuring: what, and how long.
        inputs: samples that all of them take; test samples of the run if left out.
        name: of this device; that of the processor if left out.
        trust: let models that are Python code of the user's run.
        note: told of what happens.

    Raises:
        PotstillError: what cannot be measured, before anything is.
    """
    asked = measuring or Measuring()
    found = _runnable(given, asked, note)
    samples = samples_for(found, None if inputs is None else Path(inputs))
    _rehearse(found, samples, asked, trust)
    starts = _starts(found, samples, asked, trust, note)
    figures: list[Figure] = []
    ratios: list[SettingRatio] = []
    for threads in asked.threads:
        for batch in asked.batches:
            note(f"timing {len(found)} models in turns: batch {batch}, {threads} threads")
            made = _setting(found, samples, asked, batch, threads, trust)
            ratios += made[1]
            figures += [
                _figure(each, *record, starts.get((_label(each, found), threads)))
                for each, record in zip(found, made[0], strict=True)
            ]
    return DeviceProfile(
        name=name or processor_name() or platform.machine(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        models=[_measured(each) for each in found],
        figures=figures,
        ratios=ratios,
    )


def describe_machine() -> dict[str, object]:
    """What the figures hold for."""
    return {
        "potstill": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "packages": installed(),
    }


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _runnable(
    given: Sequence[Path | str], asked: Measuring, note: Callable[[str], None]
) -> list[Artefact]:
    """The models to measure; those of a runtime that is missing are left out if nobody asked."""
    paths = [Path(each) for each in given]
    if asked.runtimes is not None:
        found = find_artefacts(paths, asked.runtimes)
        for runtime in dict.fromkeys(each.runtime for each in found):
            prepare(runtime)
        return found
    every = find_artefacts(paths, RUNTIMES)
    found = [each for each in every if each.runtime != TORCH] or every
    missing: dict[str, MissingExtra] = {}
    for runtime in dict.fromkeys(each.runtime for each in found):
        try:
            prepare(runtime)
        except MissingExtra as error:
            missing[runtime] = error
    for runtime, absent in missing.items():
        if len(missing) == len({each.runtime for each in found}):
            raise absent
        note(f"left out what runs on {runtime}: {absent}")
    return [each for each in found if each.runtime not in missing]


def _label(artefact: Artefact, found: Sequence[Artefact]) -> str:
    """The name of a model, with its runtime where the name alone says too little."""
    alike = [each for each in found if each.name == artefact.name]
    return artefact.name if len(alike) == 1 else f"{artefact.name} on {artefact.runtime}"


def _rehearse(found: Sequence[Artefact], samples: Samples, asked: Measuring, trust: bool) -> None:
    """One answer of every model to every batch, before time is spent."""
    for each in found:
        runner = open_runner(each.path, each.runtime, threads=asked.threads[0], trust=trust)
        for batch in asked.batches:
            answering(runner.call, each.path, batches_of(samples, batch)[0])


def _starts(
    found: Sequence[Artefact],
    samples: Samples,
    asked: Measuring,
    trust: bool,
    note: Callable[[str], None],
) -> dict[tuple[str, int], Start]:
    taken: dict[tuple[str, int], list[Start]] = {}
    if asked.starts:
        note(f"starting {len(found)} models afresh, {asked.starts} times each")
    first = batches_of(samples, asked.batches[0])[0]
    for _ in range(asked.starts):
        for threads in asked.threads:
            for each in found:
                start = start_afresh(each, first, batch=len(first), threads=threads, trust=trust)
                taken.setdefault((_label(each, found), threads), []).append(start)
    return {key: middle(starts) for key, starts in taken.items()}


def _setting(
    found: Sequence[Artefact],
    samples: Samples,
    asked: Measuring,
    batch: int,
    threads: int,
    trust: bool,
) -> tuple[list[tuple[LatencyRecord, EnergyPerThousand | None]], list[SettingRatio]]:
    runners: dict[str, Runner] = {
        _label(each, found): open_runner(each.path, each.runtime, threads=threads, trust=trust)
        for each in found
    }
    timing = Timing(
        batch=batch,
        threads=threads,
        repeats=MOST_CALLS,
        warmup=WARMUP_CALLS,
        seconds_budget=asked.seconds,
    )
    turns = time_in_turns(runners, samples, timing=timing)
    batches = batches_of(samples, batch)
    records = []
    for label, runner in runners.items():
        energy = None
        if asked.energy_seconds:
            energy = energy_per_thousand(
                runner.call,
                batches,
                threads=threads,
                seconds=asked.energy_seconds,
                watts=asked.watts,
            )
        records.append((latency_of(turns[label], runner, timing), energy))
    ratios = [
        SettingRatio(**ratio, batch=batch, threads=threads)
        for ratio in time_ratios(turns, next(iter(turns)))
    ]
    return records, ratios


def _figure(
    artefact: Artefact, taken: LatencyRecord, energy: EnergyPerThousand | None, start: Start | None
) -> Figure:
    return Figure(
        model=artefact.name,
        runtime=artefact.runtime,
        version=taken["version"],
        batch=taken["batch"],
        threads=taken["threads"],
        p50_ms=taken["p50"],
        p95_ms=taken["p95"],
        p99_ms=taken["p99"],
        samples_per_second=taken["samples_per_second"],
        calls=taken["repeats"],
        startup_ms=None if start is None else start["startup_ms"],
        load_ms=None if start is None else start["load_ms"],
        first_ms=None if start is None else start["first_ms"],
        import_ms=None if start is None else start["import_ms"],
        peak_bytes=None if start is None else start["peak_bytes"],
        model_bytes=None if start is None else start["model_bytes"],
        energy_wh_per_1000=None if energy is None else energy["wh"],
        energy_method=None if energy is None else energy["method"],
    )


def _measured(artefact: Artefact) -> Measured:
    return Measured(
        name=artefact.name,
        runtime=artefact.runtime,
        file=artefact.path.name,
        bytes=artefact.bytes,
        digest=artefact.digest(),
    )
