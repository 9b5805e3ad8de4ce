"""Work in a process of its own: what it needs goes in as JSON and an array, JSON comes back.

A module that does such work is started with `python -m`, and ends in `answer(work)`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from potstill.errors import ExportError, PotstillError
from potstill.measure.latency import Samples

Work = Callable[[Mapping[str, object], Samples], object]


def ask_afresh(
    module: str, told: Mapping[str, object], samples: Samples, *, threads: int, seconds: float
) -> object:
    """What a module's work gives in a new process.

    Args:
        module: started with `python -m`.
        told: for its work, as JSON can hold it.
        samples: for its work.
        threads: of pools that are sized when libraries are imported.
        seconds: after which it is given up.

    Raises:
        ExportError: it failed; the sentence is its own.
    """
    with tempfile.TemporaryDirectory(prefix="potstill-measure-") as folder:
        rows = Path(folder) / "rows.npy"
        np.save(rows, samples)
        try:
            done = subprocess.run(
                [sys.executable, "-m", module],
                input=json.dumps({**told, "rows": str(rows)}),
                capture_output=True,
                text=True,
                timeout=seconds,
                env=_environment(threads),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"The models did not answer within {seconds:.0f} s in a process of their own; "
                "measure fewer of them, or smaller batches."
            ) from error
    said = done.stdout.strip().splitlines()
    if done.returncode != 0 or not said:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(f"The models could not be run in a process of their own: {last[:400]}")
    found = json.loads(said[-1])
    if "error" in found:
        raise ExportError(str(found["error"]))
    return found["found"]


def answer(work: Work) -> None:
    """Do the work that this process was started for."""
    told = json.loads(sys.stdin.read())
    rows = np.load(told["rows"], allow_pickle=False)
    try:
        found: dict[str, object] = {"found": work(told, rows)}
    except PotstillError as error:
        found = {"error": str(error)}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


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
