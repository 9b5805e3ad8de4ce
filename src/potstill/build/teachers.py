"""The teacher that a recipe names: trained in the run, given, behind a server, or several."""

from pathlib import Path

from torch import nn

from potstill.build.learning import learning_of
from potstill.build.models import config_of, made_model
from potstill.build.routes import route_of
from potstill.data import DataSet
from potstill.errors import RecipeError
from potstill.models import ModelConfig, create_model, cut_tokens, without_kept
from potstill.pipeline.encoders import encoder_config, encoder_student, encoder_teacher
from potstill.pipeline.experiment import (
    EnsembleSource,
    EstimatorSource,
    GivenTeacher,
    MadeModel,
    TeacherSource,
    TrainedTeacher,
)
from potstill.pipeline.tokenising import OtherTokens
from potstill.pipeline.trimming import read_at
from potstill.protocols import LogitKind, Task, Teacher
from potstill.recipe import (
    MemberSpec,
    ModelSpec,
    Recipe,
    TeacherSpec,
)
from potstill.remote import Vocabulary
from potstill.remote.options import asking_of
from potstill.teachers import (
    ApiTeacher,
    Combine,
    EstimatorTeacher,
    ModuleTeacher,
    OnnxTeacher,
    Relabelled,
)
from potstill.teachers.fitting import make_estimator


def teacher_of(spec: TeacherSpec, data: DataSet, task: Task, *, trust: bool) -> TeacherSource:
    """One teacher, or an ensemble of several."""
    members = [_member(m, data, task, trust=trust) for m in spec.members()]
    if spec.route is not None and spec.model is not None:
        raise RecipeError("`teacher.route` is for an `ensemble`; one model answers every sample.")
    if len(members) == 1 and spec.model is not None:
        return members[0]
    return EnsembleSource(
        route=route_of(spec.route, data, teachers=len(members)),
        members=tuple(members),
        weights=spec.weights,
        combine=Combine(spec.combine),
        confidence=spec.confidence,
    )


def encoders_of(
    recipe: Recipe, data: DataSet, task: Task, *, trust: bool
) -> tuple[TeacherSource, MadeModel]:
    """Teacher and student of a run about embeddings."""
    spec, learner = recipe.teacher, recipe.student.model
    if spec.model is None or spec.train is not None or spec.tta is not None:
        raise RecipeError(
            "The task `embedding` takes one teacher as it is: give `teacher.model`, and leave "
            "`ensemble`, `train` and `tta` out."
        )
    config = encoder_config(spec.model.source, spec.model.name, spec.model.options, data=data)
    teacher = encoder_teacher(config, data=data, task=task, width=spec.width, trust=trust)
    if learner.source != "teacher":
        named = encoder_config(learner.source, learner.name, learner.options, data=data)
        return teacher, made_model(named, trust=trust)
    student = encoder_student(config, learner.options, data=data, told=teacher.teacher, trust=trust)
    return teacher, student


def _member(
    spec: MemberSpec, data: DataSet, task: Task, *, trust: bool
) -> TrainedTeacher | GivenTeacher | EstimatorSource:
    match spec.model.source:
        case "sklearn":
            return _estimator(spec, data, task)
        case "onnx":
            return _onnx(spec, task)
        case "api":
            return _api(spec, data, task)
        case _:
            return _module(spec, data, task, trust=trust)


def _module(
    spec: MemberSpec, data: DataSet, task: Task, *, trust: bool
) -> TrainedTeacher | GivenTeacher:
    options = dict(spec.model.options)
    known = None if spec.classes is None or spec.label_map is not None else len(spec.classes)
    outputs = options.pop("num_outputs", known)
    if outputs is not None and not isinstance(outputs, int):
        raise RecipeError(f"`teacher.model.num_outputs` is {outputs!r}; a number is expected.")
    model = spec.model
    if model.source == "teacher":
        raise RecipeError("A teacher cannot be made from itself; name its model.")
    other = _other_tokens(spec, task)
    if other is not None and outputs is None:
        outputs = other.vocabulary.size
    spelled = ModelSpec.model_validate({"source": model.source, "name": model.name, **options})
    config = config_of(spelled, data, task.name, outputs, cut=other is None)
    made = made_model(config, trust=trust)
    if spec.train is not None:
        return TrainedTeacher(
            model=made,
            learning=learning_of(spec.train),
            label_map=spec.label_map,
            classes=spec.classes,
        )
    if model.source == "builtin":
        raise RecipeError(
            f"The teacher {model.name!r} has random weights and would not be trained. "
            "Give `teacher.train`, or weights with `source: file`."
        )
    module, description = _cut_module(config, data, trust=trust)
    teacher: Teacher = ModuleTeacher(module, task if other is None else other.task)
    if spec.label_map is not None:
        teacher = Relabelled(teacher, spec.label_map)
    if other is not None:
        teacher = other.around(teacher, data)
    return GivenTeacher(
        teacher=teacher,
        name=made.name,
        description=description,
        module=module,
        config=config,
        classes=spec.classes,
    )


def _cut_module(config: ModelConfig, data: DataSet, *, trust: bool) -> tuple[nn.Module, str]:
    """A teacher's module and its description, cut to the tokens in use if its config says so."""
    whole, kept = without_kept(config)
    module = create_model(whole, seed=0, trust=trust)
    if kept is None:
        return module, config.description
    description = f"{whole.description}, {read_at(module, data, kept)}"
    return cut_tokens(module, kept), description


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
    return GivenTeacher(
        teacher=teacher, name="onnx", description=f"ONNX file {path}", classes=spec.classes
    )


def _api(spec: MemberSpec, data: DataSet, task: Task) -> GivenTeacher:
    if task.name != "causal_lm" or data.tokens is None:
        raise RecipeError(
            "A teacher of source api answers by token, which the task causal_lm can use; for other "
            "tasks let `potstill generate` write its answers as a data set."
        )
    if spec.train is not None or spec.label_map is not None:
        raise RecipeError("A teacher of source api is as it is; leave out `train` and `label_map`.")
    asking = asking_of(spec.model.name, spec.model.options, where="teacher.model")
    vocabulary = Vocabulary.of(data.tokens.tokenizer, size=data.num_outputs)
    teacher = ApiTeacher(
        asking.server, vocabulary, top=asking.top, way=asking.way, version=asking.version
    )
    if asking.answers is not None:
        teacher.keep(Path(asking.answers))
    where = f"{asking.server.model} at {asking.server.root}"
    return GivenTeacher(teacher=teacher, name=asking.server.model, description=where)


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
        classes=spec.classes,
    )
