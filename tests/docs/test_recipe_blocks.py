"""YAML on the pages is a recipe, or a part that makes one of a small recipe."""

import pytest
import yaml

from potstill.build.learning import build_objective
from potstill.recipe import Recipe
from potstill.recipe.checking import parse

from .written import NAMES, Block, blocks

MODEL = {"source": "builtin", "name": "mlp"}
SMALL = {
    "name": "page",
    "data": {"source": "builtin", "name": "digits"},
    "teacher": {"model": MODEL},
    "student": {"model": MODEL},
}
_LEFT_OUT = {"model: …": f"model: {MODEL}", "train: …": "train: {epochs: 1}"}
BLOCKS = [block for page in NAMES for block in blocks(page, "yaml")]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.page}:{b.line}")
def test_a_block_is_a_recipe_or_a_part_of_one(block: Block) -> None:
    recipe = parse(whole(block), origin=f"{block.page}:{block.line}")

    assert len(build_objective(recipe.distill.objective)) >= 1


def whole(block: Block) -> dict[str, object]:
    """The block with what it leaves out; a list is an objective, other keys are `distill`'s."""
    text = block.text
    for left_out, shown in _LEFT_OUT.items():
        text = text.replace(left_out, shown)
    part = yaml.safe_load(text)
    if isinstance(part, list):
        part = {"distill": {"objective": part}}
    if not set(part) <= set(Recipe.model_fields):
        part = {"distill": part}
    if "source" not in (data := part.get("data", {})):
        part = {**part, "data": {**SMALL["data"], **data}}
    return {**SMALL, **part}
