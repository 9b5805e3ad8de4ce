"""The log of one training: lines of figures, kept so that a resumed run does not repeat any."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from potstill.runtime.files import storing, write_text


@final
class Record:
    """Lines of `metrics.jsonl` that belong to one role and seed.

    Args:
        role: `teacher`, `scratch` or `distilled`.
        seed: of this training.
        path: the run's file; `None` keeps the lines in memory only.
    """

    def __init__(self, *, role: str, seed: int, path: Path | None = None) -> None:
        self._role, self._seed, self._path = role, seed, path
        self.lines: list[dict[str, object]] = []

    def add(self, **figures: object) -> None:
        """Append a line."""
        line = {"role": self._role, "seed": self._seed, **figures}
        self.lines.append(line)
        if self._path is not None:
            with storing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def restore(self, lines: list[dict[str, object]]) -> None:
        """Go back to these lines; later ones of this role and seed leave the file."""
        self.lines = list(lines)
        if self._path is None:
            return
        others = [text for text in _lines(self._path) if not self._is_ours(text)]
        ours = [json.dumps(line) for line in lines]
        write_text(self._path, "".join(f"{text}\n" for text in (*others, *ours)))

    def _is_ours(self, text: str) -> bool:
        try:
            line = json.loads(text)
        except ValueError:
            return True  # a line cut short by a kill
        return bool(line.get("role") == self._role and line.get("seed") == self._seed)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@final
class Means:
    """Sums of a step's figures that stay on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Add a step's figures; no synchronisation."""
        self._steps += 1
        for name, value in figures.items():
            known = self._sums.get(name)
            self._sums[name] = value.double() if known is None else known + value

    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"sums": dict(self._sums), "steps": self._steps}

    def load(self, state: Mapping[str, object], device: torch.device) -> None:
        """From a checkpoint."""
        sums, steps = state["sums"], state["steps"]
        assert isinstance(sums, dict), "as `state` wrote it"
        assert isinstance(steps, int), "as `state` wrote it"
        self._sums, self._steps = {n: v.to(device) for n, v in sums.items()}, steps

    def take(self) -> dict[str, float]:
        """The means since the last call, as numbers."""
        means = {n: float(v) / max(self._steps, 1) for n, v in self._sums.items()}
        self._sums, self._steps = {}, 0
        return means
