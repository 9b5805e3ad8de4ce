"""Models that a recipe names, and students that are made from its teacher."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from potstill.data import DataSet
from potstill.errors import RecipeError
from potstill.models import (
    PURPOSES,
    ModelConfig,
    calibrated_config,
    create_model,
    language_student_config,
    shrunken_config,
    with_kept,
)
from potstill.models.builtin import HEARING
from potstill.models.calibration import TEXTS as CALIBRATION
from potstill.models.config import Json
from potstill.models.detection import DETECTION
from potstill.models.rule_students import SOURCE as FITTED
from potstill.models.translators import shrunken_translation_model
from potstill.pipeline.experiment import (
    MadeModel,
)
from potstill.recipe import (
    ModelSpec,
    Recipe,
)

WRITING = ("seq2seq", "asr")
"""Tasks whose models of Transformers write texts."""


def made_student(recipe: Recipe, data: DataSet, *, trust: bool) -> MadeModel:
    """The student; with `trained: true`, cut from the teacher as the run has trained it."""
    made = made_model(student_config(recipe, data, trust=trust), trust=trust)
    spec, teacher = recipe.student.model, recipe.teacher.model
    if not spec.options.get("trained"):
        return made
    if spec.source != "teacher" or recipe.task not in WRITING or recipe.teacher.train is None:
        raise RecipeError(
            "`student.model.trained: true` cuts a student from a teacher that the run trains, in "
            "`task: seq2seq` and `task: asr`; give `teacher.train` and `source: teacher`."
        )
    assert teacher is not None, "`student_config` has checked"
    options = {k: v for k, v in spec.options.items() if k not in ("make", "trained")}
    name = str(spec.options.get("make", "layers"))

    def cut(module: nn.Module) -> nn.Module:
        return shrunken_translation_model(module, name, options)  # type: ignore[arg-type]

    return replace(made, cut=cut)


def made_model(config: ModelConfig, *, trust: bool = False) -> MadeModel:
    """A model that is made by its config."""
    if config.source in {"onnx", "api"}:
        raise RecipeError(
            f"A student cannot be of source {config.source!r}: it is trained with gradients. "
            "Use builtin, timm, torchvision, hf, file or python, or sklearn for a decision tree."
        )
    return MadeModel(
        make=lambda seed: create_model(config, seed=seed, trust=trust),
        name=config.name,
        description=config.description,
        key=repr(config.to_json()),
        config=config,
        fitted=config.source == FITTED,
    )


def config_of(
    spec: ModelSpec,
    data: DataSet,
    task: str,
    num_outputs: int | None = None,
    *,
    cut: bool = True,
) -> ModelConfig:
    """How a model that a recipe names is rebuilt, fitted to the data.

    Args:
        spec: the model's.
        data: what it reads.
        task: by name.
        num_outputs: if others than the data's.
        cut: whether it is cut to the tokens in use, if the data's tokenizer is.
    """
    options: Mapping[str, Json] = spec.options
    if task in WRITING and spec.source == "hf":
        options = _marked(options, data)
    elif spec.source == "hf" and cut and data.tokens is not None:
        options = with_kept(options, data.tokens.kept)
    if task == "asr" and spec.source == "hf":
        options = {"sampling_rate": data.sampling_rate or 16000, **options}
    if spec.source == "builtin" and spec.name in HEARING:
        options = _tuned(options, data, model=spec.name)
    return ModelConfig(
        source=spec.source,
        name=spec.name,
        options=options,
        input_shape=data.input_shape,
        num_outputs=num_outputs or data.num_outputs,
        purpose=_purpose(spec, task),
    )


def _marked(options: Mapping[str, Json], data: DataSet) -> Mapping[str, Json]:
    """Options of a model of random weights, told what pads and ends a text with this tokenizer."""
    given = options.get("config", {})
    if "model_type" not in options or data.tokens is None or not isinstance(given, dict):
        return options
    return {**options, "config": {**data.tokens.marks(), **given}}


def _tuned(options: Mapping[str, Json], data: DataSet, *, model: str) -> Mapping[str, Json]:
    """Options of a model that hears, told the sampling rate of the data."""
    rate = data.sampling_rate
    if rate is None:
        raise RecipeError(
            f"`{model}` hears sounds, and the data are of kind {data.kind}; use data source "
            "`audio`, or `cnn` for other signals."
        )
    given = options.get("sampling_rate", rate)
    if given != rate:
        raise RecipeError(
            f"`{model}` is to hear {given} samples a second, and the data have {rate}: leave the "
            f"model's `sampling_rate` out, or set `data.sampling_rate: {given}`."
        )
    return {**options, "sampling_rate": rate}


def student_config(recipe: Recipe, data: DataSet, *, trust: bool) -> ModelConfig:
    """The student's config; of `source: teacher`, one that is made from the teacher's.

    Raises:
        RecipeError: the teacher is not one model of texts.
    """
    spec = recipe.student.model
    if spec.source != "teacher":
        return config_of(spec, data, recipe.task)
    teacher = recipe.teacher.model
    if teacher is None or teacher.source != "hf" or data.tokens is None:
        raise RecipeError(
            "`student.model.source: teacher` cuts the student from the teacher's model, which must "
            "be one model of source hf for texts; name the student's model itself."
        )
    config = config_of(teacher, data, recipe.task)
    if recipe.task == "causal_lm":
        rows = data.train.inputs[:CALIBRATION]
        return language_student_config(config, spec.options, texts=lambda: rows, trust=trust)
    if recipe.task in WRITING:
        return shrunken_config(config, {k: v for k, v in spec.options.items() if k != "trained"})
    return calibrated_config(
        config,
        spec.options,
        texts=lambda: data.normalise(data.train.inputs[:CALIBRATION]),
        frame=data.tokens.frame,
        trust=trust,
    )


def _purpose(spec: ModelSpec, task: str) -> str:
    """What of several models by one name is meant."""
    known = task in PURPOSES | {DETECTION} or (task == "asr" and spec.source == "hf")
    return task if known else ""
