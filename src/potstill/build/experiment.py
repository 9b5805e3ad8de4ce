"""A whole experiment from a recipe."""

from dataclasses import replace

from potstill.build.chains import chain_of, growing_of
from potstill.build.combinations import refuse_strangers
from potstill.build.conditions import calibrate_of, counted, curriculum_of, data_free_of
from potstill.build.data import build_data
from potstill.build.exporting import formats_of, parity_of
from potstill.build.fitted import checked
from potstill.build.learning import (
    build_objective,
    learning_of,
    looks_of,
    on_policy_of,
    sequences_of,
    storing_of,
)
from potstill.build.models import made_student
from potstill.build.reusing import with_teachers_head
from potstill.build.speech import check_speech, transcription_of
from potstill.build.teachers import encoders_of, teacher_of
from potstill.build.weighing import predicting_task, refuse_weighing, weighed
from potstill.data import DataSet
from potstill.data.gold import GoldPairs, read_gold_pairs
from potstill.errors import RecipeError
from potstill.measure.harness import Harness
from potstill.pipeline.experiment import (
    Correct,
    Experiment,
    Measuring,
    Speed,
    TeacherSource,
)
from potstill.protocols import Task
from potstill.recipe import (
    Recipe,
)
from potstill.runtime.fast import Bounds
from potstill.tasks import (
    CausalLM,
    Detection,
    Embedding,
    Seq2Seq,
    Tagging,
)

_PREDICTING = ("classification", "keyword", "multi_label", "regression")


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
    if recipe.task == "asr":
        check_speech(recipe)
    if recipe.task == "detection":
        _check_detection(recipe)
    sequences = sequences_of(recipe)
    data_free, calibrate = data_free_of(recipe), calibrate_of(recipe)
    data = build_data(recipe, trust=trust)
    task = task_in(recipe, data)
    objective = weighed(counted(build_objective(recipe.distill.objective), data), task)
    teacher: TeacherSource
    if isinstance(task, Embedding):
        teacher, student = encoders_of(recipe, data, task, trust=trust)
    else:
        student = made_student(recipe, data, trust=trust)
        if recipe.teacher.average is not None or recipe.teacher.peers:
            teacher = growing_of(recipe, data, task, student=student, trust=trust)
        else:
            teacher = teacher_of(recipe.teacher, data, task, trust=trust)
    if recipe.student.head == "teacher":
        student = with_teachers_head(student, teacher, trust=trust)
    learning = learning_of(recipe.distill)
    made = Experiment(
        name=recipe.name,
        description=recipe.description,
        task=task,
        data=data,
        teacher=teacher,
        student=student,
        objective=objective,
        learning=replace(learning, curriculum=curriculum_of(recipe)),
        looks=looks_of(recipe),
        on_policy=on_policy_of(recipe),
        seeds=recipe.seeds,
        export=formats_of(recipe, task),
        parity=parity_of(recipe),
        measuring=_measuring(recipe, data),
        storing=storing_of(recipe.store, objective),
        device=recipe.device,
        precision=recipe.precision,
        speed=Speed(recipe.speed),
        bounds=Bounds(**recipe.bounds.model_dump()),
        track=recipe.track,
        sequences=sequences,
        chain=chain_of(
            recipe, data, task, student=student, learning=learning, objective=objective, trust=trust
        ),
        correct_bias=Correct(recipe.distill.correct_bias),
        data_free=data_free,
        calibrate=calibrate,
        recipe=recipe.to_yaml(),
    )
    refuse_strangers(made)
    return checked(made)


def _measuring(recipe: Recipe, data: DataSet) -> Measuring:
    """How models are measured; what they are asked besides is looked up now."""
    values = recipe.measure.model_dump(exclude={"lm_eval", "pairs", "year"})
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


def _check_detection(recipe: Recipe) -> None:
    """What would fail only after hours of training."""
    if recipe.teacher.model is None or recipe.teacher.tta is not None:
        raise RecipeError(
            "A teacher of `task: detection` is one model that looks once; leave `teacher.ensemble` "
            "and `teacher.tta` out."
        )
    student = recipe.student.model
    if (student.source, student.name) == ("torchvision", "fasterrcnn") and recipe.export:
        raise RecipeError(
            "A student of two stages (fasterrcnn) cannot be written as one ONNX file; set "
            "`export: []`, or take gfl, fcos, retinanet or ssdlite."
        )


def task_in(recipe: Recipe, data: DataSet) -> Task:
    """The task that a recipe names."""
    reduction = recipe.distill.reduction
    if recipe.task not in _PREDICTING:
        refuse_weighing(recipe)
    if recipe.task == "causal_lm":
        return CausalLM(reduction=reduction, vocabulary=data.num_outputs)
    if recipe.task == "seq2seq":
        return Seq2Seq(reduction=reduction)
    if reduction != "token":
        raise RecipeError(f"`distill.reduction: {reduction}` is for language models; leave it out.")
    if recipe.task == "detection":
        return Detection(data.classes or ())
    if recipe.task == "asr":
        return transcription_of(recipe, data)
    if recipe.task == "tagging":
        return Tagging(data.classes or ())
    return Embedding() if recipe.task == "embedding" else predicting_task(recipe, data)
