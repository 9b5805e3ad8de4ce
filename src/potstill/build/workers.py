"""Several processes on one search: each is the command line, told to join."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from potstill.errors import PotstillError
from potstill.pipeline.searching import FOLDER, Search
from potstill.pipeline.trying import TRAINED
from potstill.runtime.files import write_text
from potstill.runtime.progress import showing
from potstill.search import count

_LOOK_SECONDS = 1.0


def work_together(search: Search, *, jobs: int, words: Sequence[str]) -> None:
    """Let `jobs` processes train the trials of a prepared search; wait for them.

    Each has its share of the processor's cores, unless `OMP_NUM_THREADS` says otherwise.

    Args:
        search: prepared.
        jobs: processes.
        words: options of `potstill search` that say the same search again.

    Raises:
        PotstillError: all of them failed.
    """
    recipe = search.folder / FOLDER / "asked.yaml"
    write_text(recipe, search.experiment.recipe)
    each = max(1, (os.cpu_count() or jobs) // jobs)
    environment = {"OMP_NUM_THREADS": str(each), **os.environ}
    command = [sys.executable, "-m", "potstill", "search", str(recipe), *words]
    command += ["--join", "--json", "--out", str(search.folder)]
    logs = [search.folder / FOLDER / f"job-{number}.log" for number in range(jobs)]
    workers = [_start(command, log, environment) for log in logs]
    total = search.settings.trials
    told: set[int] = set()
    with showing(search.progress, "search", total, count(search.study.trials(), *TRAINED)):
        try:
            while any(worker.poll() is None for worker in workers):
                time.sleep(_LOOK_SECONDS)
                search.tell_of(told)
        except BaseException:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
            raise
    search.tell_of(told)
    if all(worker.returncode for worker in workers):
        said = logs[0].read_text(encoding="utf-8").strip().splitlines() or ["nothing was said"]
        raise PotstillError(f"All processes of the search failed: {said[-1]}")


def _start(
    command: Sequence[str], log: Path, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
