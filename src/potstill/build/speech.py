"""The task of writing down what is said, fitted to the models that a recipe names."""

from potstill.build.models import config_of
from potstill.data import DataSet
from potstill.errors import RecipeError
from potstill.models import create_model
from potstill.protocols import Task
from potstill.recipe import Recipe
from potstill.tasks import Transcription


def transcription_of(recipe: Recipe, data: DataSet) -> Task:
    """CTC, with the frames that the student answers.

    Raises:
        RecipeError: the student answers no frames.
    """
    if data.classes is None or not data.normalise.masked:
        raise RecipeError(
            "`task: asr` needs sounds with what is said in them; use data source `audio` with "
            "`text:` or `join:`."
        )
    student = create_model(config_of(recipe.student.model, data, recipe.task))
    rule = getattr(student, "rule", None)
    if rule is None:
        raise RecipeError(
            f"`{recipe.student.model.name}` does not answer frame by frame; use `ctc_conv` or "
            "`ctc_conformer` of source builtin."
        )
    return Transcription(data.classes, rule)
