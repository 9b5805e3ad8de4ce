"""A model's first answer and its memory, each in a process of its own."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

from potstill.measure.artefacts import Artefact
from potstill.measure.latency import Samples
from potstill.measure.processes import answer, ask_afresh
from potstill.measure.runners import answering, open_runner, prepare

MORE_ANSWERS = 3  # after the first one, before memory is read
PATIENCE_SECONDS = 300


class Start(TypedDict):
    """What a fresh process took. Milliseconds; bytes of physical memory, `None` where unknown.

    `import_ms` is the runtime's own start and not part of `startup_ms` = `load_ms` + `first_ms`;
    `peak_bytes` is the whole process, `model_bytes` what it grew by after the runtime was there.
    """

    import_ms: float
    load_ms: float
    first_ms: float
    startup_ms: float
    peak_bytes: int | None
    model_bytes: int | None


def start_afresh(
    artefact: Artefact, samples: Samples, *, batch: int = 1, threads: int = 1, trust: bool = False
) -> Start:
    """Open a model in a new process, ask it once, and say what that took.

    Raises:
        ExportError: the process failed; the sentence is its own.
    """
    told = {
        "path": str(artefact.path.resolve()),
        "runtime": artefact.runtime,
        "threads": threads,
        "trust": trust,
    }
    found = ask_afresh(__name__, told, samples[:batch], threads=threads, seconds=PATIENCE_SECONDS)
    return cast("Start", found)


def middle(starts: Sequence[Start]) -> Start:
    """Of several starts, the median of each figure."""

    def of(name: str) -> float | None:
        values = [value for start in starts if (value := start[name]) is not None]  # type: ignore[literal-required]
        return float(np.median(values)) if values else None

    found = {name: of(name) for name in Start.__annotations__}
    for name in ("peak_bytes", "model_bytes"):
        value = found[name]
        found[name] = None if value is None else int(value)
    return found  # type: ignore[return-value]


def _work(told: Mapping[str, object], rows: Samples) -> Start:
    path, runtime = Path(str(told["path"])), str(told["runtime"])
    begin = time.perf_counter()
    prepare(runtime)
    ready = time.perf_counter()
    _forget_peak()
    base = _memory("VmRSS")
    opening = time.perf_counter()
    runner = open_runner(
        path, runtime, threads=int(str(told["threads"])), trust=bool(told["trust"])
    )
    opened = time.perf_counter()
    answering(runner.call, path, rows)
    answered = time.perf_counter()
    for _ in range(MORE_ANSWERS):
        runner.call(rows)
    peak = _memory("VmHWM")
    return Start(
        import_ms=1e3 * (ready - begin),
        load_ms=1e3 * (opened - opening),
        first_ms=1e3 * (answered - opened),
        startup_ms=1e3 * (answered - opening),
        peak_bytes=peak,
        model_bytes=None if peak is None or base is None else max(0, peak - base),
    )


def _forget_peak() -> None:
    """Let Linux count the peak from here on; where that is not allowed it counts from the start."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _memory(name: str) -> int | None:
    """Bytes of physical memory: `VmRSS` now, `VmHWM` at most. Elsewhere than on Linux the peak."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    if name != "VmHWM":
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) if sys.platform == "darwin" else 1024 * int(most)


if __name__ == "__main__":
    answer(_work)
