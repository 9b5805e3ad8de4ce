"""The command line called in this process, and a small recipe to call it with."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from potstill.cli.main import main


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of `potstill WORDS`."""
    monkeypatch.setattr(sys, "argv", ["potstill", *(str(w) for w in words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def arrays(seed: int = 0, rows: int = 120, classes: int = 3) -> dict[str, np.ndarray]:
    """A table of `classes` clusters: `x_train`, `y_train`, `x_test`, `y_test`."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 5)) * 2
    parts = {}
    for part, size in (("train", rows), ("test", rows // 2)):
        labels = np.arange(size) % classes
        parts[f"x_{part}"] = (centres[labels] + rng.normal(size=(size, 5))).astype(np.float32)
        parts[f"y_{part}"] = labels
    return parts


def write_recipe(folder: Path, *, content: dict[str, np.ndarray] | None = None, **changes) -> Path:
    """A quick recipe over an npz file; `changes` replace whole top-level keys."""
    np.savez(folder / "data.npz", **(content or arrays()))
    recipe = {
        "name": "quick",
        "data": {"source": "npz", "path": str(folder / "data.npz"), "kind": "table"},
        "teacher": {"model": {"name": "mlp", "hidden": [16]}, "train": {"epochs": 2}},
        "student": {"model": {"name": "mlp", "hidden": [4]}},
        "distill": {"epochs": 2, "batch_size": 32},
        "seeds": 2,
        "export": [],
        "measure": {"seconds": 0.1, "energy": False},
        **changes,
    }
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path
