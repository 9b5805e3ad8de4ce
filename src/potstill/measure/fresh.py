"""A model's first answer and its memory, each in a process of its own.

`python -m potstill.measure.fresh` is that process: it is told what to open on its standard input,
and says what it took on its standard output.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from potstill.errors import ExportError
from potstill.measure.artefacts import Artefact
from potstill.measure.latency import Samples

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
    with tempfile.TemporaryDirectory(prefix="potstill-start-") as folder:
        rows = Path(folder) / "rows.npy"
        np.save(rows, samples[:batch])
        told = {
            "path": str(artefact.path.resolve()),
            "runtime": artefact.runtime,
            "rows": str(rows),
            "threads": threads,
            "trust": trust,
        }
        done = subprocess.run(
            [sys.executable, "-m", "potstill.measure.fresh"],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env=_environment(threads),
            check=False,
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(f"{artefact.path} could not be started afresh: {last[:400]}")
    found: Start = json.loads(done.stdout.splitlines()[-1])
    return found


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


def _environment(threads: int) -> dict[str, str]:
    """This process's, so that the same Potstill is found, and pools of the right size."""
    home = str(Path(__file__).parents[2])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": str(threads),
    }


def _answer(told: Mapping[str, object]) -> Start:
    """The work of the fresh process."""
    from potstill.measure.runners import answering, open_runner, prepare

    path, runtime = Path(str(told["path"])), str(told["runtime"])
    rows = np.load(str(told["rows"]), allow_pickle=False)
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


def _main() -> None:
    sys.stdout.write(json.dumps(_answer(json.loads(sys.stdin.read()))) + "\n")


if __name__ == "__main__":
    _main()
