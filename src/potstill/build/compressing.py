"""What `compress` is asked for, from a recipe, and the experiment of a run folder."""

from collections.abc import Sequence
from pathlib import Path

from potstill.compress.importance import Importance
from potstill.errors import RecipeError
from potstill.pipeline.compression import Compression, Quantised, Way
from potstill.recipe import CompressSpec, Recipe, load

RECIPE = "recipe.yaml"


def compression_of(spec: CompressSpec, seeds: tuple[int, ...] | None = None) -> Compression:
    """The options of `compress` as objects."""
    values = spec.model_dump(exclude={"ways", "importance", "quantised"})
    return Compression(
        **values,
        ways=tuple(Way(name) for name in spec.ways),
        importance=Importance(spec.importance),
        quantised=Quantised(spec.quantised),
        seeds=seeds,
    )


def is_run(place: str) -> bool:
    """Whether this is the folder of a run, not a recipe."""
    return Path(place).is_dir()


def recipe_of_run(folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe that a run folder was made of.

    Raises:
        RecipeError: it holds none, as those of `potstill.distill`.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise RecipeError(
            f"{folder} holds no {RECIPE}: give the folder of a finished `potstill run`, or call "
            "`potstill.pipeline.compression.compress_experiment` with the objects of your run."
        )
    return load(str(path), overrides)
