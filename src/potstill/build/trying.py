"""Models of a run that were not exported, for the page that tries them: from the run's recipe."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from potstill.build.experiment import build
from potstill.errors import PotstillError
from potstill.pipeline.answering import torch_models
from potstill.recipe import load
from potstill.tryout.answering import Answerer


def unexported(
    folder: Path, roles: Sequence[str], *, trust: bool, note: Callable[[str], None]
) -> list[Answerer]:
    """The models of these roles in torch, as far as the recipe's data and models can be had.

    Args:
        folder: of a finished run.
        roles: that have no exported file.
        trust: let code that the recipe names run.
        note: told of roles that are left out, and why.
    """
    recipe = folder / "recipe.yaml"
    if not recipe.is_file():
        note(f"{', '.join(roles)}: not exported, and the run has no recipe to build them from.")
        return []
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    seeds = {role: results["models"].get(role, {}).get("shipped_seed") or 0 for role in roles}
    try:
        experiment = build(load(str(recipe)), trust=trust)
        found = torch_models(experiment, folder, seeds, roles, trust=trust)
    except PotstillError as error:
        note(f"{', '.join(roles)}: not exported, and not to be had from the recipe ({error})")
        return []
    absent = [role for role in roles if role not in found]
    if absent:
        note(f"{', '.join(absent)}: not exported, and not to be had without training.")
    torch.set_num_threads(1)
    return [Answerer(name=role, call=call, engine="torch") for role, call in found.items()]
