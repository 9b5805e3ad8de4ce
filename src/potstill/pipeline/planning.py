"""A dry run: handshake, sizes, memory, steps, and time from a few timed steps."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from potstill.data.feed import Feed
from potstill.data.samples import DataSet
from potstill.losses import Objective
from potstill.losses.objective import objective_of
from potstill.measure.size import flops, num_parameters, weight_bytes
from potstill.pipeline.climbing import stand_ins
from potstill.pipeline.combining import combined, of_classes
from potstill.pipeline.experiment import (
    EnsembleSource,
    EstimatorSource,
    Experiment,
    GivenTeacher,
    GrowingSource,
    Learning,
    MadeModel,
    TeacherSource,
    TrainedTeacher,
)
from potstill.pipeline.foreseeing import as_long, as_studied, as_taught, foreseen
from potstill.pipeline.storing import Decision, decide, labelling_feed
from potstill.pipeline.token_planning import activation_bytes, token_notes
from potstill.pipeline.tokenising import vocabulary_report
from potstill.pipeline.trimming import vocabulary_notes
from potstill.protocols import Teacher
from potstill.runtime.fabric import Runtime
from potstill.teachers import ModuleTeacher, Relabelled
from potstill.teachers.calibrated import Calibrated
from potstill.train import Distiller
from potstill.train.handshake import shake_hands

_TIMED_SECONDS = 1.0
_OPTIMIZER_COPIES = {"adamw": 2, "adam": 2, "sgd": 1}


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    """Sizes of a model: parameters, bytes of its weights, FLOPs of one sample."""

    role: str
    description: str
    parameters: int | None
    bytes: int | None
    flops: int | None


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """One kind of training: how often, how many steps, how long, how much memory.

    Args:
        role: `teacher`, `label` (a step asks the teacher about a batch), `scratch`, `distilled`.
        runs: how many trainings (seeds or members).
        steps: optimiser steps of each.
        step_ms: median of a few timed steps.
        seconds: of all runs together, without validation.
        memory: bytes of weights, gradients, optimiser state and activations of one training.
    """

    role: str
    runs: int
    steps: int
    step_ms: float
    seconds: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do and cost. Times are estimates from this machine."""

    name: str
    device: str
    samples: dict[str, int]
    objective: str
    pairing: tuple[str, ...]
    models: tuple[PlannedModel, ...]
    trainings: tuple[PlannedTraining, ...]
    store: Decision
    seconds: float
    notes: tuple[str, ...]


def make_plan(experiment: Experiment) -> Plan:
    """Check everything that can be checked without training, and estimate the rest.

    Raises:
        HandshakeError: terms, teacher, student and data do not match.
    """
    runtime = Runtime(device=experiment.device, precision=experiment.precision)
    experiment = foreseen(experiment)
    models, teacher, learned = _teacher(experiment)
    student = experiment.student.make(0)
    models.append(_sizes("student", experiment.student.description, [student], experiment))
    plain = objective_of(experiment.task.default_objective())
    trainings = [
        replace(_timed(experiment, runtime, each, plain, None), role="teacher") for each in learned
    ]
    last = _links(experiment, runtime, teacher, models, trainings)
    if experiment.student.fitted:
        return _fitted_plan(experiment, runtime, models, last, trainings)
    taught, studied = as_taught(experiment.data), as_studied(experiment.data)
    mine = (experiment.student, experiment.learning, taught)
    alone = (experiment.student, as_long(experiment.learning, experiment.data), studied)
    agreed = _distiller(experiment, runtime, mine, experiment.objective, last).prepare(
        _feed(mine, last).batch(0, 0)
    )
    experiment = replace(experiment, objective=agreed.named)
    for role, learner, objective, source in (
        ("scratch", alone, plain, None),
        ("distilled", mine, experiment.objective, last),
    ):
        one = _timed(experiment, runtime, learner, objective, source)
        runs = len(experiment.seeds)
        trainings.append(replace(one, role=role, runs=runs, seconds=one.seconds * runs))
    step_ms = (trainings[-2].step_ms, trainings[-1].step_ms)
    store = _store(experiment, last)
    if store.used:
        trainings[-2:] = _from_store(store, *trainings[-2:])
    data = experiment.data
    words = vocabulary_report(data, student, teacher, _modules(experiment))
    return Plan(
        name=experiment.name,
        device=str(runtime.device),
        samples=_samples(data),
        objective=repr(experiment.objective),
        pairing=agreed.pairing,
        models=tuple(models),
        trainings=tuple(trainings),
        store=store,
        seconds=sum(t.seconds for t in trainings),
        notes=(
            *data.notes,
            *vocabulary_notes(data, student),
            *token_notes(
                experiment,
                student=student,
                teachers=_modules(experiment),
                batch=_feed(alone, None).batch(0, 0),
                step_ms=step_ms,
            ),
            *([] if words is None else words.lines()),
        ),
    )


def _links(
    experiment: Experiment,
    runtime: Runtime,
    teacher: Teacher,
    models: list[PlannedModel],
    trainings: list[PlannedTraining],
) -> Teacher:
    """Add what a chain trains; its last link, or the teacher if there is none."""
    last = teacher
    for link, above, below in stand_ins(experiment, teacher):
        models.append(_sizes(link.role, link.model.description, [link.model.make(0)], experiment))
        learner = (link.model, link.learning, as_taught(experiment.data))
        if link.model.fitted:
            _shake(experiment, learner, link.objective, above)
        else:
            linked = _timed(experiment, runtime, learner, link.objective, above)
            trainings.append(replace(linked, role=link.role))
        last = below
    return last


def _shake(
    experiment: Experiment, learner: "Learned", objective: Objective, teacher: Teacher
) -> None:
    batch, task = _feed(learner, teacher).batch(0, 0), experiment.task
    shake_hands(learner[0].make(0), teacher, objective=objective, task=task, batch=batch)


def _fitted_plan(
    experiment: Experiment,
    runtime: Runtime,
    models: list[PlannedModel],
    teacher: Teacher,
    trainings: list[PlannedTraining],
) -> Plan:
    """Of a student that is fitted: only those who teach take time worth a plan."""
    data = experiment.data
    mine = (experiment.student, experiment.learning, as_taught(data))
    _shake(experiment, mine, experiment.objective, teacher)
    name = experiment.student.name
    return Plan(
        name=experiment.name,
        device=str(runtime.device),
        samples=_samples(data),
        objective=repr(experiment.objective),
        pairing=(),
        models=tuple(models),
        trainings=tuple(trainings),
        store=_store(experiment, teacher),
        seconds=sum(t.seconds for t in trainings),
        notes=(*data.notes, f"A {name} is fitted in one go, mostly within seconds."),
    )


def _samples(data: DataSet) -> dict[str, int]:
    return {
        "train": len(data.train),
        "transfer": 0 if data.transfer is None else len(data.transfer),
        "validation": len(data.validation),
        "test": len(data.test),
    }


def _modules(experiment: Experiment) -> list[nn.Module]:
    """What the teacher is made of, if it is one model."""
    match experiment.teacher:
        case TrainedTeacher(model=made):
            return [made.make(0)]
        case GivenTeacher(module=inner) if inner is not None:
            return [inner]
    return []


def _store(experiment: Experiment, teacher: Teacher) -> Decision:
    feed = labelling_feed(experiment, teacher, device="cpu")
    return decide(experiment, teacher, folder=Path("runs") / experiment.name, feed=feed)


def _from_store(
    store: Decision, scratch: PlannedTraining, distilled: PlannedTraining
) -> list[PlannedTraining]:
    """What labelling takes beside the students, who then train as if they had no teacher."""
    asking = max(distilled.step_ms - scratch.step_ms, 0.0)
    steps = distilled.steps * distilled.runs * store.views // store.passes
    label = replace(
        distilled,
        role="label",
        runs=1,
        steps=steps,
        step_ms=asking,
        seconds=asking * steps / 1000,
        memory=0,
    )
    taught = replace(
        distilled,
        step_ms=distilled.step_ms - asking,
        seconds=(distilled.step_ms - asking) * distilled.steps * distilled.runs / 1000,
    )
    return [label, scratch, taught]


Learned = tuple[MadeModel, Learning, DataSet]


def _teacher(experiment: Experiment) -> tuple[list[PlannedModel], Teacher, list[Learned]]:
    """Sizes, a stand-in with random weights where the teacher is yet to be trained, trainings."""
    sizes, teacher, learned = _parts(experiment)
    if experiment.looks is not None:
        teacher = experiment.looks.around(teacher, experiment.data)
    if experiment.calibrate:
        teacher = Calibrated(teacher, 1.0)
    return sizes, teacher, learned


def _parts(experiment: Experiment) -> tuple[list[PlannedModel], Teacher, list[Learned]]:
    source = experiment.teacher
    if isinstance(source, EnsembleSource):
        parts = [_member(experiment, member) for member in source.members]
        teacher = combined(source, [p[1] for p in parts], experiment.data, experiment.task)
        return (
            [p[0] for p in parts],
            teacher,
            [learned for p in parts for learned in p[2]],
        )
    if isinstance(source, GrowingSource):
        kept = [
            _sizes(role, model.description, [model.make(0)], experiment)
            for role, model in source.kept.items()
        ]
        return kept, source.make(experiment.seeds[0]), []
    sizes, teacher, learned = _member(experiment, source)
    return [sizes], teacher, learned


def _member(
    experiment: Experiment, source: TeacherSource
) -> tuple[PlannedModel, Teacher, list[Learned]]:
    match source:
        case TrainedTeacher(model=made, learning=learning, label_map=label_map, classes=classes):
            module = made.make(0)
            teacher: Teacher = ModuleTeacher(module, experiment.task)
            if label_map is not None:
                teacher = Relabelled(teacher, label_map)
            data = of_classes(experiment.data, classes)
            sizes = _sizes("teacher", made.description, [module], experiment)
            return sizes, teacher, [(made, learning, data)]
        case GivenTeacher(teacher=given, module=inner, description=text):
            modules = [] if inner is None else [inner]
            return _sizes("teacher", text, modules, experiment), given, []
        case EstimatorSource(fit=fit, description=text, classes=classes):
            fitted = fit(of_classes(experiment.data, classes))
            return _sizes("teacher", text, [], experiment), fitted, []
        case EnsembleSource() | GrowingSource():
            raise AssertionError("ensembles do not nest, and what grows is planned apart")


def _sizes(
    role: str, description: str, modules: list[nn.Module], experiment: Experiment
) -> PlannedModel:
    if not modules:
        return PlannedModel(
            role=role, description=description, parameters=None, bytes=None, flops=None
        )
    sample = experiment.data.example()
    return PlannedModel(
        role=role,
        description=description,
        parameters=sum(num_parameters(m) for m in modules),
        bytes=sum(weight_bytes(m) for m in modules),
        flops=sum(flops(m, sample) for m in modules),
    )


def _feed(learned: Learned, teacher: Teacher | None) -> Feed:
    _, learning, data = learned
    raw = teacher is not None and teacher.reads_raw
    return learning.feed(data.train, data, seed=0, device="cpu", raw=raw)


def _distiller(
    experiment: Experiment,
    runtime: Runtime,
    learned: Learned,
    objective: Objective,
    teacher: Teacher | None,
) -> Distiller:
    made, learning, _ = learned
    return Distiller(
        made.make(0),
        teacher,
        objective=objective,
        task=experiment.task,
        settings=learning.settings,
        runtime=runtime,
    )


def _timed(
    experiment: Experiment,
    runtime: Runtime,
    learned: Learned,
    objective: Objective,
    teacher: Teacher | None,
) -> PlannedTraining:
    """Median time of some steps after a first one, within about a second."""
    learning = learned[1]
    feed = _feed(learned, teacher)
    distiller = _distiller(experiment, runtime, learned, objective, teacher)
    distiller.step(feed.batch(0, 0).to(runtime.device))
    times: list[float] = []
    while sum(times) < _TIMED_SECONDS and len(times) < 200:
        started = time.perf_counter()
        batch = feed.batch(0, len(times) % feed.num_batches).to(runtime.device)
        float(distiller.step(batch)["loss"])
        times.append(time.perf_counter() - started)
    middle = sorted(times)[len(times) // 2]
    steps = learning.settings.epochs * feed.num_batches
    return PlannedTraining(
        role="",
        runs=1,
        steps=steps,
        step_ms=middle * 1000,
        seconds=middle * steps,
        memory=_memory(distiller.student, learning, feed.batch(0, 0).inputs),
    )


def _memory(student: nn.Module, learning: Learning, inputs: torch.Tensor) -> int:
    settings = learning.settings
    rows = math.ceil(len(inputs) / settings.accumulate)
    copies = 2 + _OPTIMIZER_COPIES[settings.optimizer] + (settings.ema is not None)
    activations = activation_bytes(student.cpu(), inputs[:1].cpu()) * rows
    return weight_bytes(student) * copies + activations
