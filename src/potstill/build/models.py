"""Models that a recipe names, and students that are made from its teacher."""

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
from potstill.models.calibration import TEXTS as CALIBRATION
from potstill.pipeline.experiment import (
    MadeModel,
)
from potstill.recipe import (
    ModelSpec,
    Options,
    Recipe,
)


def made_model(config: ModelConfig, *, trust: bool = False) -> MadeModel:
    """A model that is made by its config."""
    if config.source in {"sklearn", "onnx", "api"}:
        raise RecipeError(
            f"A student cannot be of source {config.source!r}: it is trained with gradients. "
            "Use builtin, timm, torchvision, hf, file or python."
        )
    return MadeModel(
        make=lambda seed: create_model(config, seed=seed, trust=trust),
        name=config.name,
        description=config.description,
        key=repr(config.to_json()),
        config=config,
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
    writes = task == "seq2seq"
    kept = None if data.tokens is None else data.tokens.kept
    options = with_kept(spec.options, kept if spec.source == "hf" and cut else None)
    return ModelConfig(
        source=spec.source,
        name=spec.name,
        options=_marked(spec.options, data) if writes else options,
        input_shape=data.input_shape,
        num_outputs=num_outputs or data.num_outputs,
        purpose=task if task in PURPOSES else "",
    )


def _marked(options: Options, data: DataSet) -> Options:
    """Options of a model of random weights, told what pads and ends a text with this tokenizer."""
    given = options.get("config", {})
    if "model_type" not in options or data.tokens is None or not isinstance(given, dict):
        return options
    return {**options, "config": {**data.tokens.marks(), **given}}


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
    if recipe.task == "seq2seq":
        return shrunken_config(config, spec.options)
    return calibrated_config(
        config,
        spec.options,
        texts=lambda: data.normalise(data.train.inputs[:CALIBRATION]),
        frame=data.tokens.frame,
        trust=trust,
    )
