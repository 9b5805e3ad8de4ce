"""A whole experiment from a recipe."""

from potstill.build.data import build_data
from potstill.build.learning import (
    build_objective,
    learning_of,
    looks_of,
    on_policy_of,
    sequences_of,
    storing_of,
)
from potstill.build.models import made_model, student_config
from potstill.build.teachers import encoders_of, teacher_of
from potstill.data import DataSet
from potstill.data.gold import GoldPairs, read_gold_pairs
from potstill.errors import RecipeError
from potstill.measure.harness import Harness
from potstill.models import (
    PURPOSES,
)
from potstill.models.config import TAGGING
from potstill.pipeline.experiment import (
    Experiment,
    Measuring,
    Speed,
)
from potstill.protocols import Task
from potstill.recipe import (
    Recipe,
)
from potstill.runtime.fast import Bounds
from potstill.tasks import (
    CausalLM,
    Classification,
    Embedding,
    MultiLabel,
    Regression,
    Seq2Seq,
    Tagging,
)

_TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "embedding": Embedding,
}


def build(recipe: Recipe, *, trust: bool = False) -> Experiment:
    """Everything a recipe names, made.

    Args:
        recipe: checked values.
        trust: whether code that the recipe names may run.

    Raises:
        PotstillError: whatever cannot be found, read or built, in one sentence.
    """
    if recipe.task == "seq2seq":
        _check_translation(recipe)
    sequences = sequences_of(recipe)
    data = build_data(recipe, trust=trust)
    task = _task(recipe, data)
    objective = build_objective(recipe.distill.objective)
    if isinstance(task, Embedding):
        teacher, student = encoders_of(recipe, data, task, trust=trust)
    else:
        teacher = teacher_of(recipe.teacher, data, task, trust=trust)
        student = made_model(student_config(recipe, data, trust=trust), trust=trust)
    return Experiment(
        name=recipe.name,
        description=recipe.description,
        task=task,
        data=data,
        teacher=teacher,
        student=student,
        objective=objective,
        learning=learning_of(recipe.distill),
        looks=looks_of(recipe),
        on_policy=on_policy_of(recipe),
        seeds=recipe.seeds,
        export=_formats(recipe, task),
        measuring=_measuring(recipe, data),
        storing=storing_of(recipe.store, objective),
        device=recipe.device,
        precision=recipe.precision,
        speed=Speed(recipe.speed),
        bounds=Bounds(**recipe.bounds.model_dump()),
        track=recipe.track,
        sequences=sequences,
        recipe=recipe.to_yaml(),
    )


def _measuring(recipe: Recipe, data: DataSet) -> Measuring:
    """How models are measured; what they are asked besides is looked up now."""
    values = recipe.measure.model_dump(exclude={"lm_eval", "pairs"})
    return Measuring(**values, lm_eval=_harness(recipe), pairs=_pairs(recipe, data))


def _pairs(recipe: Recipe, data: DataSet) -> GoldPairs | None:
    wanted = recipe.measure.pairs
    if not wanted:
        return None
    if recipe.task != "embedding" or data.tokens is None:
        raise RecipeError(
            "`measure.pairs` compares embeddings of texts with gold similarities (task embedding); "
            "leave it out."
        )
    length = recipe.data.options.get("max_length")
    if isinstance(length, int):
        return read_gold_pairs(wanted, data.tokens, max_length=length)
    return read_gold_pairs(wanted, data.tokens)


def _harness(recipe: Recipe) -> Harness | None:
    wanted = recipe.measure.lm_eval
    if wanted is None:
        return None
    if recipe.task != "causal_lm":
        raise RecipeError("`measure.lm_eval` asks language models (task causal_lm); leave it out.")
    harness = Harness(**wanted.model_dump())
    harness.check()
    return harness


def _check_translation(recipe: Recipe) -> None:
    """What would fail only after hours of training."""
    if recipe.teacher.model is None:
        raise RecipeError("A teacher of `task: seq2seq` is one model; several are not built yet.")
    if "onnx" in recipe.export and not {"hf", "auto"} & set(recipe.export):
        raise RecipeError(
            "`export: [onnx]` of encoder-decoders writes two files beside the folder that holds "
            "their tokenizer; ask for `export: [hf, onnx]`."
        )


def _task(recipe: Recipe, data: DataSet) -> Task:
    reduction = recipe.distill.reduction
    if recipe.task == "causal_lm":
        return CausalLM(reduction=reduction, vocabulary=data.num_outputs)
    if recipe.task == "seq2seq":
        return Seq2Seq(reduction=reduction)
    if reduction != "token":
        raise RecipeError(f"`distill.reduction: {reduction}` is for language models; leave it out.")
    if recipe.task == "tagging":
        return Tagging(data.classes or ())
    return _TASKS[recipe.task]()


def _formats(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """What is exported; `auto` is what the task's models are used as."""
    usual = "hf" if task.name in PURPOSES - {TAGGING} else "onnx"
    return tuple(dict.fromkeys(usual if each == "auto" else each for each in recipe.export))
