"""What `results.json` says of the roles beside teacher, scratch and distilled."""

from collections.abc import Mapping
from typing import cast

from torch import nn

from potstill.pipeline.climbing import TOGETHER, Other, others_of
from potstill.pipeline.exporting import size_of
from potstill.pipeline.workshop import Workshop

Tree = Mapping[str, object]
_MEASURED = ("test", "test_last", "test_best", "calibration", "agreement")


def other_models(shop: Workshop, measured: Tree) -> dict[str, dict[str, object]]:
    """Links of a chain, students that the teacher teaches itself, peers: figures by role."""
    e = shop.experiment
    found = {other.role: _other(shop, other, measured) for other in others_of(e)}
    if e.chain is not None and e.chain.together:
        models = [*(link.model for link in e.chain.links), e.student]
        found[TOGETHER] = {
            "name": f"ensemble of {len(models)}",
            "description": "mean of the probabilities of all generations",
            **_figures(measured, TOGETHER),
            **size_of([model.make(0) for model in models], e.data.example()),
        }
    return found


def _other(shop: Workshop, other: Other, measured: Tree) -> dict[str, object]:
    modules: list[nn.Module] = [other.model.make(0).eval()]
    return {
        "name": other.model.name,
        "description": f"{other.model.description}, taught by {other.taught_by}",
        **_figures(measured, other.role),
        **size_of(modules, shop.experiment.data.example()),
        **(_training(shop, other) if other.has_epochs else {}),
    }


def _figures(measured: Tree, role: str) -> dict[str, object]:
    parts = {name: cast("Tree", measured.get(name) or {}) for name in _MEASURED}
    return {name: part[role] for name, part in parts.items() if role in part}


def _training(shop: Workshop, other: Other) -> dict[str, object]:
    outcomes = [shop.ledger.outcome(f"{other.role}/{seed}") for seed in other.seeds]
    spent = [o["seconds"] for o in outcomes]
    numbers = [float(value) for value in spent if isinstance(value, int | float)]
    return {
        "train_seconds": sum(numbers) / len(numbers) if numbers else None,
        "best_epochs": [o["best_epoch"] for o in outcomes],
        "selected_epochs": [o["selected_epoch"] for o in outcomes],
    }
