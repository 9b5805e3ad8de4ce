"""The task of writing down what is said, fitted to the models that a recipe names."""

from potstill.build.models import config_of
from potstill.data import DataSet
from potstill.errors import RecipeError
from potstill.models import create_model
from potstill.protocols import Task
from potstill.recipe import Recipe
from potstill.tasks import Dictation, Transcription


def check_speech(recipe: Recipe) -> None:
    """What would fail only after the data are read.

    Raises:
        RecipeError: models and data that do not go together.
    """
    student = recipe.student.model
    writes = recipe.data.options.get("tokenizer") is not None
    if recipe.teacher.model is None:
        raise RecipeError("A teacher of `task: asr` is one model; several are not built yet.")
    sources = {recipe.teacher.model.source, student.source}
    if sources == {"builtin"} and not writes:
        if recipe.distill.sequences is not None:
            raise RecipeError(
                "`distill.sequences` needs a teacher that writes tokens; models that answer frame "
                "by frame are taught by `frame_kd`."
            )
        return
    if "builtin" in sources:
        raise RecipeError(
            "Teacher and student of `task: asr` either both answer frame by frame (source builtin, "
            "no `data.tokenizer`) or both write tokens (source hf or teacher, with "
            "`data.tokenizer`)."
        )
    if not writes:
        raise RecipeError(
            "Models that hear and write need `data.tokenizer`: a folder, or {vocabulary: 300} to "
            "train one on the training texts."
        )
    if "onnx" in recipe.export:
        raise RecipeError(
            "`export: [onnx]` is built for models that answer frame by frame; models that hear and "
            "write are exported as `hf`."
        )


def transcription_of(recipe: Recipe, data: DataSet) -> Task:
    """CTC with the frames that the student answers, or the next token.

    Raises:
        RecipeError: the student answers no frames.
    """
    if data.tokens is not None:
        return Dictation(reduction=recipe.distill.reduction)
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
