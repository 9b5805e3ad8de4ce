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
from potstill.measure.latency import LatencyRecord, Samples, batches_of
from potstill.measure.power import EnergyPerThousand
from potstill.measure.profile import DeviceProfile, Figure, Measured, SettingRatio
from potstill.measure.runners import RUNTIMES, TORCH, check_installed
from potstill.measure.settings import Work, labels_of, needs_process, rehearse, take
from potstill.runtime.environment import installed, processor_name


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

    def work(self, artefacts: Sequence[Artefact], threads: int, *, trust: bool) -> Work:
        """What is done with one number of threads."""
        return Work(
            artefacts=artefacts,
            threads=threads,
            batches=self.batches,
            seconds=self.seconds,
            energy_seconds=self.energy_seconds,
            watts=self.watts,
            trust=trust,
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
    works = [asked.work(found, threads, trust=trust) for threads in asked.threads]
    if not needs_process(works[0]):
        rehearse(works[0], samples)
    starts = _starts(found, samples, asked, trust, note)
    figures: list[Figure] = []
    ratios: list[SettingRatio] = []
    for work in works:
        note(f"timing {len(found)} models in turns, threads: {work.threads}")
        for taken in take(work, samples):
            ratios += [
                SettingRatio(**ratio, batch=taken["batch"], threads=work.threads)
                for ratio in taken["ratios"]
            ]
            figures += [
                _figure(each, latency, energy, starts.get((label, work.threads)))
                for label, each, latency, energy in zip(
                    labels_of(found), found, taken["latency"], taken["energy"], strict=True
                )
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
            check_installed(runtime)
        return found
    every = find_artefacts(paths, RUNTIMES)
    found = [each for each in every if each.runtime != TORCH] or every
    missing: dict[str, MissingExtra] = {}
    for runtime in dict.fromkeys(each.runtime for each in found):
        try:
            check_installed(runtime)
        except MissingExtra as error:
            missing[runtime] = error
    for runtime, absent in missing.items():
        if len(missing) == len({each.runtime for each in found}):
            raise absent
        note(f"left out what runs on {runtime}: {absent}")
    return [each for each in found if each.runtime not in missing]


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
            for label, each in zip(labels_of(found), found, strict=True):
                start = start_afresh(each, first, batch=len(first), threads=threads, trust=trust)
                taken.setdefault((label, threads), []).append(start)
    return {key: middle(starts) for key, starts in taken.items()}


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
