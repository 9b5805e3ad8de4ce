"""Students of finished runs on their way out: what a run folder says, as objects again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from potstill.build.data import build_data
from potstill.build.experiment import task_in
from potstill.build.exporting import formats_of, parity_of
from potstill.build.given import task_of
from potstill.data import DataSet
from potstill.errors import RecipeError
from potstill.export.formats import Bound
from potstill.pipeline import Run
from potstill.pipeline.shipping import ship_again
from potstill.recipe import Recipe, load


def export_student(
    run: Run,
    formats: Sequence[str] | None,
    *,
    role: str,
    seed: int | None,
    out: Path | None,
    data: DataSet | None,
    student: nn.Module | None,
    bounds: Mapping[str, Bound] | None,
    trust: bool,
) -> Path:
    """Ship a student of a run whose data are given, or named by the recipe in its folder.

    Raises:
        RecipeError: neither data nor a recipe, or no forms.
        PotstillError: what `ship_again` raises.
    """
    recipe = _recipe_of(run)
    if data is None and recipe is None:
        raise RecipeError(
            f"{run.folder} holds no recipe.yaml, so its data cannot be read again to compare files "
            "on; call `potstill.export_run(run, formats, data=…)` with what it was trained on."
        )
    chosen = build_data(recipe, trust=trust) if data is None and recipe is not None else data
    assert chosen is not None, "one of both is there"
    task = task_of(chosen, None) if recipe is None else task_in(recipe, chosen)
    asked = formats or (() if recipe is None else formats_of(recipe, task))
    asked = [form for form in asked if form != "hf"]
    if not asked:
        raise RecipeError(
            "No form to export in was given; name some with --format, such as onnx-int8."
        )
    return ship_again(
        run,
        chosen,
        task,
        asked,
        role=role,
        seed=seed,
        out=out,
        bounds=bounds or ({} if recipe is None else parity_of(recipe)),
        trust=trust,
        student=student,
    )


def _recipe_of(run: Run) -> Recipe | None:
    path = run.folder / "recipe.yaml"
    return load(str(path)) if path.is_file() else None
