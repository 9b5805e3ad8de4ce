"""`stages.json`: which stages are done, under which hash, and what they found."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import final

from potstill.runtime.files import read_json, storing, take_lock, write_json
from potstill.teachers.fingerprints import digest

Outcome = dict[str, object]


@final
class Ledger:
    """The stages of a run folder. One process at a time.

    A stage whose hash stands and whose files exist is not run again.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "stages.json"
        self._lock = take_lock(
            folder,
            refusal=f"Another Potstill process is working in {folder}. "
            "Wait for it, or give this run another folder with --out.",
        )
        try:
            self._stages = _read(self._path)
            self._save()  # a folder that cannot be written to is noticed before any work
        except BaseException:
            self._lock.close()
            raise
        self.ran: list[str] = []

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()

    def outcome(self, stage: str) -> Outcome:
        """What a stage that is done found."""
        found = self._stages[stage]["outcome"]
        assert isinstance(found, dict), "as `run` wrote it"
        return found

    def run(
        self,
        stage: str,
        *,
        depends_on: Iterable[str],
        files: Iterable[Path],
        work: Callable[[], Mapping[str, object]],
    ) -> Outcome:
        """Run a stage unless it is done already, and keep its outcome.

        Args:
            stage: its name.
            depends_on: all that its result depends on.
            files: what it leaves behind; all must exist for the stage to count as done.
            work: does it; returns values that JSON can hold.
        """
        hashed = digest(depends_on)
        known = self._stages.get(stage, {})
        done = known.get("state") == "done" and known.get("hash") == hashed
        if done and all(path.exists() for path in files):
            return self.outcome(stage)
        if known.get("hash") != hashed:
            self._forget(stage)
        started = time.time()
        self._stages[stage] = {"hash": hashed, "state": "running", "outcome": {}}
        self._save()
        outcome = dict(work())
        self.ran.append(stage)
        self._stages[stage] = {
            "hash": hashed,
            "state": "done",
            "seconds": round(time.time() - started, 3),
            "outcome": outcome,
        }
        self._save()
        return outcome

    def _forget(self, stage: str) -> None:
        """A stage that changed starts over: its checkpoint belongs to the old one."""
        checkpoint = self._path.parent / "checkpoints" / f"{stage.replace('/', '-')}.pt"
        with storing(checkpoint):
            checkpoint.unlink(missing_ok=True)

    def keep_only(self, stages: Iterable[str]) -> None:
        """Drop stages that this run does not have (seeds that were taken away)."""
        wanted = set(stages)
        self._stages = {name: s for name, s in self._stages.items() if name in wanted}
        self._save()

    def _save(self) -> None:
        write_json(self._path, {"stages": self._stages})


def _read(path: Path) -> dict[str, Outcome]:
    stages = read_json(path).get("stages", {}) if path.exists() else {}
    assert isinstance(stages, dict), "as `_save` wrote it"
    return stages
