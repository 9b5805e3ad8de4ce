"""From a recipe to objects: the only module that knows both."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import potstill.data as data_sources
from potstill.data import Augment, CutMix, DataSet, Mix, Mixup
from potstill.errors import RecipeError
from potstill.generation import EngineName, Sampling
from potstill.losses import Objective, create
from potstill.losses.divergence import DivergenceTerm
from potstill.losses.objective import Weighted
from potstill.models import (
    PURPOSES,
    ModelConfig,
    calibrated_config,
    create_model,
    language_student_config,
)
from potstill.models.calibration import TEXTS as CALIBRATION
from potstill.pipeline.experiment import (
    EnsembleSource,
    EstimatorSource,
    Experiment,
    GivenTeacher,
    Learning,
    Looks,
    MadeModel,
    Measuring,
    Speed,
    Storing,
    TeacherSource,
    TrainedTeacher,
    Use,
)
from potstill.pipeline.tokenising import OtherTokens
from potstill.protocols import LogitKind, Task
from potstill.recipe import (
    CodecSpec,
    LearnSpec,
    MemberSpec,
    MixSpec,
    ModelSpec,
    Recipe,
    StepSpec,
    StoreSpec,
    TeacherSpec,
    TermSpec,
    TrainSpec,
)
from potstill.runtime.fast import Bounds
from potstill.store.codec import Codec
from potstill.store.codecs import make_codec
from potstill.tasks import CausalLM, Classification, MultiLabel, Regression, Tagging
from potstill.teachers import Combine, EstimatorTeacher, ModuleTeacher, OnnxTeacher, Relabelled
from potstill.teachers.fitting import make_estimator
from potstill.train import OnPolicy, OptimizerName, Replay, ScheduleName, Select, TrainSettings

if TYPE_CHECKING:
    from potstill.protocols import Teacher

_TASKS: dict[str, type[Classification | MultiLabel | Regression]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
}
_KINDS = {"classification": "single_label", "causal_lm": "tokens", "tagging": "tags"}


def build(recipe: Recipe, *, trust: bool = False) -> Experiment:
    """Everything a recipe names, made.

    Args:
        recipe: checked values.
        trust: whether code that the recipe names may run.

    Raises:
        PotstillError: whatever cannot be found, read or built, in one sentence.
    """
    data = build_data(recipe, trust=trust)
    task = _task(recipe, data)
    objective = build_objective(recipe.distill.objective)
    return Experiment(
        name=recipe.name,
        description=recipe.description,
        task=task,
        data=data,
        teacher=_teacher(recipe.teacher, data, task, trust=trust),
        student=made_model(_student_config(recipe, data, trust=trust), trust=trust),
        objective=objective,
        learning=_learning(recipe.distill),
        looks=_looks(recipe),
        on_policy=_on_policy(recipe),
        seeds=recipe.seeds,
        export=_formats(recipe, task),
        measuring=Measuring(**recipe.measure.model_dump()),
        storing=storing_of(recipe.store, objective),
        device=recipe.device,
        precision=recipe.precision,
        speed=Speed(recipe.speed),
        bounds=Bounds(**recipe.bounds.model_dump()),
        track=recipe.track,
        recipe=recipe.to_yaml(),
    )


def _task(recipe: Recipe, data: DataSet) -> Task:
    reduction = recipe.distill.reduction
    if recipe.task == "causal_lm":
        return CausalLM(reduction=reduction, vocabulary=data.num_outputs)
    if reduction != "token":
        raise RecipeError(f"`distill.reduction: {reduction}` is for language models; leave it out.")
    if recipe.task == "tagging":
        return Tagging(data.classes or ())
    return _TASKS[recipe.task]()


def build_data(recipe: Recipe, *, trust: bool = False) -> DataSet:
    """The data that a recipe names."""
    spec = recipe.data
    options = spec.options
    texts = options.get("kind") == "text" or recipe.task in ("causal_lm", "tagging")
    if texts and "tokenizer" not in options:
        options |= _tokenizer(recipe)
    kind = _KINDS.get(recipe.task, recipe.task)
    return data_sources.load(
        spec.source,
        options,
        target_kind=data_sources.TargetKind(kind),
        validation=spec.validation,
        test=spec.test,
        seed=spec.seed,
        limit=spec.limit,
        trust=trust,
    )


def build_objective(terms: Sequence[TermSpec]) -> Objective:
    """The weighted sum of the terms named.

    Raises:
        RecipeError: no term, or one that is unknown or wrong.
    """
    if not terms:
        raise RecipeError("`distill.objective` is empty; give at least one term, for example kd.")
    made = [Weighted(spec.weight, create(spec.term, spec.options)) for spec in terms]
    return Objective(tuple(made))


def settings_of(spec: TrainSpec) -> TrainSettings:
    """The same settings, as the trainer takes them."""
    values = {name: getattr(spec, name) for name in TrainSpec.model_fields}
    values["optimizer"] = OptimizerName(spec.optimizer)
    values["schedule"] = ScheduleName(spec.schedule)
    values["select"] = Select(spec.select)
    return TrainSettings(**values)


def storing_of(spec: StoreSpec, objective: Objective) -> Storing:
    """The same choices, with the codecs made.

    A codec that keeps probabilities takes the temperature of the terms, if they have one alone.
    """
    found = {t.temperature for _, t in objective if isinstance(t, DivergenceTerm)}
    temperature = found.pop() if len(found) == 1 else None
    return Storing(
        use=Use(spec.use),
        path=spec.path,
        views=spec.views,
        codec=_codec(spec.codec, temperature),
        features=_codec(spec.features, None),
    )


def _codec(spec: CodecSpec | None, temperature: float | None) -> Codec | None:
    if spec is None:
        return None
    given = spec.options.items()
    options = {key: value for key, value in given if isinstance(value, bool | int | float | str)}
    if len(options) < len(given):
        wrong = next(key for key in spec.options if key not in options)
        raise RecipeError(f"The codec option `{wrong}` is {spec.options[wrong]!r}; give a number.")
    made = make_codec(spec.codec, options)
    if temperature is None or "temperature" in options or "temperature" not in made.options():
        return made
    return make_codec(spec.codec, {**options, "temperature": temperature})


def _formats(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """What is exported; `auto` is what the task's models are used as."""
    usual = "hf" if task.name == "causal_lm" else "onnx"
    return tuple(dict.fromkeys(usual if each == "auto" else each for each in recipe.export))


def _learning(spec: LearnSpec) -> Learning:
    return Learning(settings=settings_of(spec), augment=_augment(spec.augment), mix=_mix(spec.mix))


def _augment(steps: Sequence[StepSpec]) -> Augment | None:
    return Augment.parse([{"op": s.op, **s.options} for s in steps]) if steps else None


def _mix(spec: MixSpec | None) -> Mix | None:
    if spec is None:
        return None
    kind = {"mixup": Mixup, "cutmix": CutMix}[spec.kind]
    return kind(alpha=spec.alpha, probability=spec.probability)


def _config(
    spec: ModelSpec, data: DataSet, task: str, num_outputs: int | None = None
) -> ModelConfig:
    return ModelConfig(
        source=spec.source,
        name=spec.name,
        options=spec.options,
        input_shape=data.input_shape,
        num_outputs=num_outputs or data.num_outputs,
        purpose=task if task in PURPOSES else "",
    )


def _student_config(recipe: Recipe, data: DataSet, *, trust: bool) -> ModelConfig:
    spec = recipe.student.model
    if spec.source != "teacher":
        return _config(spec, data, recipe.task)
    teacher = recipe.teacher.model
    if teacher is None or teacher.source != "hf" or data.tokens is None:
        raise RecipeError(
            "`student.model.source: teacher` cuts the student from the teacher's model, which must "
            "be one model of source hf for texts; name the student's model itself."
        )
    config = _config(teacher, data, recipe.task)
    if recipe.task == "causal_lm":
        rows = data.train.inputs[:CALIBRATION]
        return language_student_config(config, spec.options, texts=lambda: rows, trust=trust)
    return calibrated_config(
        config,
        spec.options,
        texts=lambda: data.normalise(data.train.inputs[:CALIBRATION]),
        frame=data.tokens.frame,
        trust=trust,
    )


def _tokenizer(recipe: Recipe) -> dict[str, str | bool]:
    """That of the first model of Transformers, teacher before student."""
    models = [m.model for m in recipe.teacher.members()] + [recipe.student.model]
    if recipe.teacher.model is not None and recipe.teacher.tokenizer is not None:
        models = [recipe.student.model]  # the teacher's tokens are its own
    for model in models:
        if model.source == "hf" and model.name:
            return {
                "tokenizer": model.name,
                "fetch_tokenizer": model.options.get("pretrained") is True,
            }
    return {}


def made_model(config: ModelConfig, *, trust: bool = False) -> MadeModel:
    """A model that is made by its config."""
    if config.source in {"sklearn", "onnx"}:
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


def _teacher(spec: TeacherSpec, data: DataSet, task: Task, *, trust: bool) -> TeacherSource:
    members = [_member(m, data, task, trust=trust) for m in spec.members()]
    if len(members) == 1 and spec.model is not None:
        return members[0]
    return EnsembleSource(
        members=tuple(members),
        weights=spec.weights,
        combine=Combine(spec.combine),
        confidence=spec.confidence,
    )


def _looks(recipe: Recipe) -> Looks | None:
    spec = recipe.teacher.tta
    if spec is None:
        return None
    if recipe.distill.mix is not None:
        raise RecipeError(
            "`teacher.tta` looks at samples, and `distill.mix` makes mixtures that are none; "
            "leave one of them out."
        )
    augment = _augment(spec.augment)
    assert augment is not None, "the recipe asks for one operation at least"
    return Looks(augment=augment, views=spec.views)


def _on_policy(recipe: Recipe) -> OnPolicy | None:
    spec = recipe.distill.on_policy
    if spec is None:
        return None
    if recipe.task != "causal_lm":
        raise RecipeError(
            f"`distill.on_policy` is for language models, and the task is {recipe.task}; leave it "
            "out."
        )
    replay = None if spec.replay is None else Replay(**spec.replay.model_dump())
    return OnPolicy(
        fraction=spec.fraction,
        after=spec.after,
        sampling=Sampling(
            max_new_tokens=spec.max_new_tokens,
            temperature=spec.temperature,
            top_p=spec.top_p,
            top_k=spec.top_k,
        ),
        prompt_tokens=spec.prompt_tokens,
        replay=replay,
        engine=EngineName(spec.engine),
    )


def _member(
    spec: MemberSpec, data: DataSet, task: Task, *, trust: bool
) -> TrainedTeacher | GivenTeacher | EstimatorSource:
    match spec.model.source:
        case "sklearn":
            return _estimator(spec, data, task)
        case "onnx":
            return _onnx(spec, task)
        case _:
            return _module(spec, data, task, trust=trust)


def _module(
    spec: MemberSpec, data: DataSet, task: Task, *, trust: bool
) -> TrainedTeacher | GivenTeacher:
    options = dict(spec.model.options)
    outputs = options.pop("num_outputs", None)
    if outputs is not None and not isinstance(outputs, int):
        raise RecipeError(f"`teacher.model.num_outputs` is {outputs!r}; a number is expected.")
    model = spec.model
    if model.source == "teacher":
        raise RecipeError("A teacher cannot be made from itself; name its model.")
    other = _other_tokens(spec, task)
    config = ModelConfig(
        source=model.source,
        name=model.name,
        options=options,
        input_shape=data.input_shape,
        num_outputs=outputs or (data.num_outputs if other is None else other.vocabulary.size),
        purpose=task.name if task.name in PURPOSES else "",
    )
    made = made_model(config, trust=trust)
    if spec.train is not None:
        return TrainedTeacher(model=made, learning=_learning(spec.train), label_map=spec.label_map)
    if model.source == "builtin":
        raise RecipeError(
            f"The teacher {model.name!r} has random weights and would not be trained. "
            "Give `teacher.train`, or weights with `source: file`."
        )
    module = made.make(0)
    teacher: Teacher = ModuleTeacher(module, task if other is None else other.task)
    if spec.label_map is not None:
        teacher = Relabelled(teacher, spec.label_map)
    if other is not None:
        teacher = other.around(teacher, data)
    return GivenTeacher(
        teacher=teacher,
        name=made.name,
        description=made.description,
        module=module,
        config=config,
    )


def _other_tokens(spec: MemberSpec, task: Task) -> OtherTokens | None:
    if spec.tokenizer is None:
        if spec.markers:
            raise RecipeError("`teacher.markers` is for teachers with a `tokenizer` of their own.")
        return None
    if spec.train is not None:
        raise RecipeError(
            "A teacher with a `tokenizer` of its own cannot be trained in the run, whose data are "
            "in the student's tokens; give a trained one, or leave `teacher.tokenizer` out."
        )
    fetch = spec.model.options.get("pretrained") is True
    return OtherTokens.load(spec.tokenizer, fetch=fetch, markers=spec.markers, task=task)


def _onnx(spec: MemberSpec, task: Task) -> GivenTeacher:
    options = dict(spec.model.options)
    path = options.pop("path", spec.model.name)
    probabilities = bool(options.pop("probabilities", False))
    raw = bool(options.pop("raw_inputs", False))
    if options or not isinstance(path, str):
        raise RecipeError(
            f"`teacher.model` of source onnx takes path, probabilities and raw_inputs; "
            f"given: {', '.join(spec.model.options)}."
        )
    kind = LogitKind.VALUES if task.kind == "regression" else LogitKind.RAW
    teacher: Teacher = OnnxTeacher(path, kind=kind, probabilities=probabilities, raw_inputs=raw)
    if spec.label_map is not None:
        teacher = Relabelled(teacher, spec.label_map)
    return GivenTeacher(teacher=teacher, name="onnx", description=f"ONNX file {path}")


def _estimator(spec: MemberSpec, data: DataSet, task: Task) -> EstimatorSource:
    name, options = spec.model.name, spec.model.options
    make_estimator(name, options, kind=task.kind)  # a wrong name or option is said now

    def fit(chosen: DataSet) -> EstimatorTeacher:
        estimator = make_estimator(name, options, kind=task.kind)
        table = chosen.train.inputs.reshape(len(chosen.train), -1).numpy()
        labels = chosen.train.labels
        assert labels is not None, "training data are labelled"
        values = labels.numpy()
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        estimator.fit(table, values)
        return EstimatorTeacher(estimator, kind=task.kind, num_outputs=chosen.num_outputs)

    shown = ", ".join(f"{k}={v}" for k, v in options.items())
    return EstimatorSource(
        fit=fit,
        name=name,
        description=f"{name}({shown}) on {len(data.train)} rows",
        key=f"{name} {sorted(options.items())}",
        label_map=spec.label_map,
    )
