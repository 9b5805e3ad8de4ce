"""In which forms a recipe's students leave, and how far these may be from the students."""

from potstill.errors import ExportError, RecipeError
from potstill.export.formats import Bound
from potstill.models import PURPOSES
from potstill.models.config import TAGGING
from potstill.pipeline.packing import check_formats
from potstill.protocols import Task
from potstill.recipe import Recipe


def formats_of(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """What is exported; `auto` is what the task's models are used as.

    Raises:
        RecipeError: a form that the task's students do not have.
    """
    usual = "hf" if task.name in PURPOSES - {TAGGING} or task.judged_by else "onnx"
    asked = tuple(dict.fromkeys(usual if each == "auto" else each for each in recipe.export))
    try:
        check_formats(asked, task)
    except ExportError as error:
        raise RecipeError(f"`export`: {error}") from error
    return asked


def parity_of(recipe: Recipe) -> dict[str, Bound]:
    """The bounds of every precision."""
    return {precision: Bound(**values) for precision, values in recipe.parity.model_dump().items()}
