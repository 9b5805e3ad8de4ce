"""Whether `speed: auto` and the store change what is learnt: accuracy against `exact`.

One teacher is trained; then the same recipe runs in four ways (exact, auto, exact from the store,
auto from the store), every seed in each. The table gives mean accuracies and the mean difference
from `exact` over seeds with its 95% interval (Student's t, paired by seed), and what `auto` chose.

`python bench/same_accuracy.py mnist [KEY=VALUE …]` or `… cifar100 …`; values override the recipe,
for example `data.source=npz data.path=mnist.npz seeds=5`.
"""

import json
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import yaml
from scipy import stats

import potstill
from potstill.runtime.environment import processor_name

WAYS = {
    "exact": ["speed=exact", "store=off"],
    "auto": ["speed=auto", "store=off"],
    "exact, from the store": ["speed=exact", "store=on"],
    "auto, from the store": ["speed=auto", "store=on"],
}
SHARED = {"seeds": 5, "export": [], "measure": {"energy": False}}
RECIPES = {
    "mnist": {
        "data": {"source": "hf", "path": "ylecun/mnist", "normalise": "none", "validation": 1000},
        "teacher": {
            "model": {"name": "mlp", "hidden": [800, 800], "dropout": 0.3},
            "train": {"epochs": 6, "batch_size": 256, "select": "last"},
        },
        "student": {"model": {"name": "mlp", "hidden": [128, 128]}},
        "distill": {"epochs": 5, "batch_size": 128, "select": "last", "validate_every": 5},
    },
    "cifar100": {
        "data": {"source": "hf", "path": "uoft-cs/cifar100", "limit": 6000, "validation": 1000},
        "teacher": {
            "model": {"name": "resnet8x4"},
            "train": {"epochs": 8, "batch_size": 64, "select": "last", "validate_every": 8},
        },
        "student": {"model": {"name": "resnet8"}},
        "distill": {"epochs": 6, "batch_size": 64, "select": "last", "validate_every": 6},
    },
}


def write(path: Path, content: dict[str, object]) -> str:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def chosen(run: Path) -> str:
    """What `auto` decided, from the run folder; a dash where nothing was decided."""
    path = run / "speed.json"
    if not path.exists():
        return "-"
    found = json.loads(path.read_text(encoding="utf-8"))
    return ", ".join(f"{who}: {how}" for who, how in sorted(names(found).items())) or "-"


def names(record: object, who: str = "") -> dict[str, str]:
    """The `chosen` entries of the record, wherever they stand."""
    found: dict[str, str] = {}
    if isinstance(record, dict):
        if isinstance(record.get("chosen"), str):
            found[str(record.get("who", who))] = record["chosen"]
        for key, value in record.items():
            found |= names(value, key)
    elif isinstance(record, list):
        for value in record:
            found |= names(value, who)
    return found


def main() -> None:
    kind, *overrides = sys.argv[1:] or ["mnist"]
    with tempfile.TemporaryDirectory() as folder:
        compare(kind, overrides, Path(folder))


def compare(kind: str, overrides: list[str], folder: Path) -> None:
    recipe = write(folder / "recipe.yaml", {"name": kind, **RECIPES[kind], **SHARED})
    accuracies: dict[str, dict[str, list[float]]] = {}
    choices: dict[str, str] = {}
    teacher: list[str] = []
    for number, (way, settings) in enumerate(WAYS.items()):
        out = folder / f"run-{number}"
        run = potstill.run(recipe, overrides=[*overrides, *settings, *teacher], out=out)
        if not teacher:  # the first run's teacher teaches in all
            where = {"source": "file", "name": str(out / "models" / "teacher" / "seed-0")}
            teacher = [f"teacher={json.dumps({'model': where})}"]
        accuracies[way] = {
            role: run.models[role]["test"]["accuracy"]["values"]
            for role in ("scratch", "distilled")
        }
        choices[way] = chosen(out)
    show(kind, accuracies, choices)


def show(kind: str, accuracies: dict[str, dict[str, list[float]]], choices: dict[str, str]) -> None:
    print(
        f"{kind}: {processor_name()}, threads {os.environ['OMP_NUM_THREADS']}, "
        f"torch {potstill_torch()}, potstill {potstill.__version__}"
    )
    print("| way | student | accuracy, % | difference from exact (95% interval) | chosen |")
    print("|---|---|---|---|---|")
    for way, by_role in accuracies.items():
        for role, values in by_role.items():
            pairs = zip(values, accuracies["exact"][role], strict=True)
            difference = interval([a - b for a, b in pairs])
            mean = statistics.mean(values)
            print(f"| {way} | {role} | {100 * mean:.2f} | {difference} | {choices[way]} |")


def interval(differences: list[float]) -> str:
    mean, count = statistics.mean(differences), len(differences)
    if count < 2 or not any(differences):
        return (
            f"{100 * mean:+.2f} (equal in every seed)"
            if not any(differences)
            else f"{100 * mean:+.2f}"
        )
    half = stats.t.ppf(0.975, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return f"{100 * mean:+.2f} ({100 * (mean - half):+.2f} to {100 * (mean + half):+.2f})"


def potstill_torch() -> str:
    import torch

    return torch.__version__


if __name__ == "__main__":
    main()
