"""Latency of one call, on the runtime that a model is shipped on. Models are timed in turns.

Each turn: one untimed call (the caches are another model's), then a few timed ones, then the next
model. A slow second on the machine then hits all models alike.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from potstill.errors import DataError, ExportError
from potstill.runtime.texts import are_texts, fed, trimmed

ENGINE = "onnxruntime"
CALLS_PER_TURN = 5
MIN_TURNS = 3
MILLISECONDS = 1e-6  # from nanoseconds

Samples = NDArray[np.generic]
Turns = list[list[int]]
"""Of one model: its turns, each the nanoseconds of some calls."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How to time.

    Args:
        batch: samples in one call.
        threads: of the runtime, inside one call.
        repeats: timed calls of each model, at most.
        warmup: calls of each model before the first timed one.
        seconds_budget: for all models together; when it is spent, what was timed counts (at least
            15 calls each).
    """

    batch: int = 1
    threads: int = 1
    repeats: int = 200
    warmup: int = 10
    seconds_budget: float = 10.0


DEFAULT_TIMING = Timing()


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Something that can be timed: a call on `[B, ...]` samples, and what it runs on."""

    call: Callable[[Samples], object]
    engine: str
    version: str | None = None


class LatencyRecord(TypedDict):
    """`latency_ms` in results.json: milliseconds a call, on the CPU.

    `samples_per_second` is one caller's: the batch over the mean time of a call.
    """

    p50: float
    p95: float
    p99: float
    samples_per_second: float
    batch: int
    threads: int
    engine: str
    version: str | None
    repeats: int


def measure_onnx(
    files: Mapping[str, Path], samples: Samples, *, timing: Timing = DEFAULT_TIMING
) -> dict[str, LatencyRecord]:
    """Time ONNX files on ONNX Runtime (CPU), in turns.

    Equivalent to `measure_latency` of the `onnx_runner` of each file.

    Args:
        files: ONNX files by name; all take the same input.
        samples: `[N, ...]`, real inputs of the type the models take; used in rotation.
        timing: batch, threads, repeats, warm-up and budget.

    Raises:
        ExportError: a file is missing or cannot be run.
        DataError: there are no samples.
    """
    runners = {name: onnx_runner(path, threads=timing.threads) for name, path in files.items()}
    return measure_latency(runners, samples, timing=timing)


def measure_callable(
    call: Callable[[Samples], object],
    samples: Samples,
    *,
    engine: str,
    version: str | None = None,
    timing: Timing = DEFAULT_TIMING,
) -> LatencyRecord:
    """Time one function, for example a teacher that is no ONNX file. See `measure_latency`."""
    runner = Runner(call=call, engine=engine, version=version)
    return measure_latency({engine: runner}, samples, timing=timing)[engine]


def measure_latency(
    runners: Mapping[str, Runner], samples: Samples, *, timing: Timing = DEFAULT_TIMING
) -> dict[str, LatencyRecord]:
    """Time several models on the same samples, in turns, and say p50, p95 and p99 of a call.

    Equivalent to `latency_of` each model's `time_in_turns`.
    """
    turns = time_in_turns(runners, samples, timing=timing)
    return {name: latency_of(turns[name], runners[name], timing) for name in runners}


def time_in_turns(
    runners: Mapping[str, Runner], samples: Samples, *, timing: Timing = DEFAULT_TIMING
) -> dict[str, Turns]:
    """The times of several models on the same samples; the n-th turns of all lie side by side.

    The garbage collector rests meanwhile. BLAS and OpenMP pools are held to `timing.threads`;
    pools that an estimator starts by itself (`n_jobs`) are not.

    Returns:
        For each model its turns, each the nanoseconds of at most five calls.
    """
    batches = batches_of(samples, timing.batch)
    tracks = [_Track(name, runner) for name, runner in runners.items()]
    with threadpool_limits(limits=timing.threads), _no_collection():
        deadline = time.perf_counter() + timing.seconds_budget
        for track in tracks:
            for turn in range(timing.warmup):
                track.runner.call(batches[turn % len(batches)])
        turns = -(-timing.repeats // CALLS_PER_TURN)
        for turn in range(turns):
            if turn >= MIN_TURNS and time.perf_counter() > deadline:
                break
            count = min(CALLS_PER_TURN, timing.repeats - turn * CALLS_PER_TURN)
            shift = turn % len(tracks)  # nobody always comes after the same model
            for track in tracks[shift:] + tracks[:shift]:
                track.take_turn(batches, start=turn * CALLS_PER_TURN, count=count)
    return {track.name: track.turns for track in tracks}


def latency_of(turns: Turns, runner: Runner, timing: Timing) -> LatencyRecord:
    """The figures of a model's calls."""
    nanoseconds = np.concatenate([np.asarray(turn) for turn in turns])
    p50, p95, p99 = np.percentile(nanoseconds, [50, 95, 99]) * MILLISECONDS
    return LatencyRecord(
        p50=float(p50),
        p95=float(p95),
        p99=float(p99),
        samples_per_second=float(timing.batch / (nanoseconds.mean() * 1e-9)),
        batch=timing.batch,
        threads=timing.threads,
        engine=runner.engine,
        version=runner.version,
        repeats=len(nanoseconds),
    )


def onnx_runner(path: Path, *, threads: int = 1) -> Runner:
    """A session of ONNX Runtime on the CPU with that many threads, ready to be timed.

    Threads do not spin while another model is having its turn.

    Raises:
        ExportError: the file is missing or ONNX Runtime cannot run it.
    """
    session = open_session(path, threads=threads)
    names = [given.name for given in session.get_inputs()]

    def call(batch: Samples) -> object:
        return session.run(None, fed(names, batch))

    return Runner(call=call, engine=ENGINE, version=onnxruntime.__version__)


def open_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU that says nothing below an error."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not path.is_file():
        raise ExportError(f"{path} cannot be timed, there is no such file; export the model first.")
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has no public root of its exceptions
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {path} ({_first_line(error)}); "
            "export it again, with a lower opset if that is what it complains about."
        ) from error


@dataclass
class _Track:
    """One model and its times so far, in nanoseconds."""

    name: str
    runner: Runner
    turns: Turns = field(default_factory=list)

    def take_turn(self, batches: list[Samples], *, start: int, count: int) -> None:
        call, clock = self.runner.call, time.perf_counter_ns
        call(batches[start % len(batches)])
        taken: list[int] = []
        for i in range(start, start + count):
            batch = batches[i % len(batches)]
            begin = clock()
            call(batch)
            taken.append(clock() - begin)
        self.turns.append(taken)


def batches_of(samples: Samples, size: int) -> list[Samples]:
    """Whole batches of real samples; too few samples for one are repeated."""
    if len(samples) == 0 or size < 1:
        raise DataError(
            f"Latency needs samples and a batch of at least one, got {len(samples)} samples and "
            f"a batch of {size}; pass some rows of the test data."
        )
    if len(samples) < size:
        samples = np.concatenate([samples] * -(-size // len(samples)))
    whole = len(samples) // size
    parts = [samples[i * size : (i + 1) * size] for i in range(whole)]
    if are_texts(samples):  # as they come in use: no longer than the longest of the batch
        parts = [trimmed(part) for part in parts]
    return [np.ascontiguousarray(part) for part in parts]


@contextmanager
def _no_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
