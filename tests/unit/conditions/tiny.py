"""Data and recipes that are small enough for a test, in which every condition can show."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from potstill.build import build
from potstill.pipeline import Pipeline, Run
from potstill.recipe import parse

CLASSES, SIDE = 4, 8


def images(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images [N, 8, 8] uint8: a bright quarter says which of four classes it is."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pixels = rng.integers(0, 90, (count, SIDE, SIDE))
    for row, label in enumerate(labels):
        top, left = 4 * (label // 2), 4 * (label % 2)
        pixels[row, top : top + 4, left : left + 4] += rng.integers(60, 140)
    return pixels.clip(0, 255).astype(np.uint8), labels


def save_images(folder: Path, *, train: int = 240, test: int = 80, **more: np.ndarray) -> Path:
    """An .npz file of training and test images."""
    (x_train, y_train), (x_test, y_test) = images(train, seed=0), images(test, seed=1)
    path = folder / "quarters.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, **more)
    return path


def recipe(path: Path, **changes: object) -> dict[str, object]:
    """A quick run on those images; `data__omit=[3]` sets `data.omit`."""
    content: dict[str, object] = {
        "name": "tiny",
        "data": {"source": "npz", "path": str(path), "validation": 80, "normalise": "none"},
        "teacher": {
            "model": {"name": "mlp", "hidden": [24], "batch_norm": True},
            "train": {"epochs": 6, "lr": 0.01, "batch_size": 32, "select": "last"},
        },
        "student": {"model": {"name": "mlp", "hidden": [12]}},
        "distill": {"epochs": 3, "lr": 0.01, "batch_size": 32, "select": "last"},
        "seeds": 1,
        "export": [],
        "measure": {"seconds": 0.02, "energy": False},
        "speed": "exact",
        "device": "cpu",
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})  # type: ignore[assignment]
        place[last] = value
    return content


def run(content: Mapping[str, object], folder: Path) -> Run:
    """What the recipe says, done."""
    return Pipeline(build(parse(content)), folder).run()
