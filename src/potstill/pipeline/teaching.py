"""The first stage: a teacher that is ready, trained here, fitted here, or put together."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from torch import nn

from potstill.losses.objective import objective_of
from potstill.measure.energy import metered
from potstill.pipeline.asking import keep_answers
from potstill.pipeline.combining import combined, described, of_classes
from potstill.pipeline.experiment import (
    EnsembleSource,
    EstimatorSource,
    GivenTeacher,
    GrowingSource,
    MadeModel,
    TrainedTeacher,
)
from potstill.pipeline.training import BEST, LAST, Assigned, restored, train
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.teachers import EstimatorTeacher, ModuleTeacher, Relabelled
from potstill.train.pace import Pace


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A teacher with what is known of it.

    Args:
        teacher: for the distiller.
        modules: what it is made of, for size, FLOPs and export; empty if it is no torch module.
        other: the same teacher with the weights of its `last` and `best` epoch, if trained here.
        estimator: whether it is fitted on a table.
    """

    teacher: Teacher
    name: str
    description: str
    modules: tuple[nn.Module, ...] = ()
    other: Mapping[str, Teacher] = field(default_factory=dict)
    seconds: float | None = None
    energy_wh: float | None = None
    co2_g: float | None = None
    best_epoch: int | None = None
    selected_epoch: int | None = None
    estimator: bool = False


def get_teacher(shop: Workshop) -> Ready:
    """The run's teacher; trains what is not trained yet."""
    source = shop.experiment.teacher
    assert not isinstance(source, GrowingSource), "which is not ready before the students are"
    if isinstance(source, EnsembleSource):
        return _looking(shop, _ensemble(shop, source))
    return _looking(shop, _single(shop, source, number=0))


def _looking(shop: Workshop, ready: Ready) -> Ready:
    """The same teacher with its test-time augmentation, if there is one."""
    looks, data = shop.experiment.looks, shop.experiment.data
    if looks is None:
        return ready
    return replace(
        ready,
        teacher=looks.around(ready.teacher, data),
        other={name: looks.around(each, data) for name, each in ready.other.items()},
        description=f"{ready.description}, mean over each input and {looks.views} views",
    )


def _single(
    shop: Workshop, source: TrainedTeacher | GivenTeacher | EstimatorSource, *, number: int
) -> Ready:
    if isinstance(source, GivenTeacher):
        keep_answers(source.teacher, shop.folder)
        modules = () if source.module is None else (source.module,)
        return Ready(
            teacher=source.teacher,
            name=source.name,
            description=source.description,
            modules=modules,
        )
    if isinstance(source, EstimatorSource):
        return _fitted(shop, source, number)
    return _trained(shop, source, number)


def _trained(shop: Workshop, source: TrainedTeacher, number: int) -> Ready:
    experiment = shop.experiment
    objective = objective_of(experiment.task.default_objective())
    learning, data = source.learning, of_classes(experiment.data, source.classes)

    def pace() -> Pace:
        return shop.hastening.pace(
            f"training teacher {number}",
            source.model,
            lambda: learning.feed(data.train, data, seed=number, device=shop.runtime.device),
            teacher=None,
            objective=objective,
            settings=learning.settings,
        )

    outcome = train(
        shop,
        Assigned(
            role="teacher",
            seed=number,
            model=source.model,
            learning=source.learning,
            samples=data.train,
            objective=objective,
            pace=pace,
            data=data,
            classes=source.classes,
        ),
    )
    module, other = _modules(shop, source.model, number, outputs=data.num_outputs)
    return ready_from(
        outcome,
        source.model,
        _mapped(ModuleTeacher(module, experiment.task), source.label_map),
        modules=(module,),
        other={
            name: _mapped(ModuleTeacher(each, experiment.task), source.label_map)
            for name, each in other.items()
        },
    )


def ready_from(
    outcome: Mapping[str, object],
    model: MadeModel,
    teacher: Teacher,
    *,
    modules: tuple[nn.Module, ...],
    other: Mapping[str, Teacher] = MappingProxyType({}),
) -> Ready:
    """A teacher that was trained in a stage, with what its training took."""
    return Ready(
        teacher=teacher,
        name=model.name,
        description=model.description,
        modules=modules,
        other=other,
        seconds=_number(outcome["seconds"]),
        energy_wh=_number(outcome["energy_wh"]),
        co2_g=_number(outcome["co2_g"]),
        best_epoch=_whole(outcome["best_epoch"]),
        selected_epoch=_whole(outcome["selected_epoch"]),
    )


def _modules(
    shop: Workshop, model: MadeModel, number: int, *, outputs: int
) -> tuple[nn.Module, dict[str, nn.Module]]:
    folder = shop.models("teacher", number)
    other = {
        name: restored(model, folder, num_outputs=outputs, file=file)
        for name, file in (("last", LAST), ("best", BEST))
    }
    return restored(model, folder, num_outputs=outputs), other


def _fitted(shop: Workshop, source: EstimatorSource, number: int) -> Ready:
    made: list[EstimatorTeacher] = []
    measuring = shop.experiment.measuring

    def fit() -> dict[str, object]:
        with metered("teacher", enabled=measuring.energy, country=measuring.country) as meter:
            made.append(source.fit(of_classes(shop.experiment.data, source.classes)))
        return {"seconds": meter.seconds, "energy_wh": meter.energy_wh, "co2_g": meter.co2_g}

    outcome = shop.run(
        f"teacher/{number}",
        depends_on=shop.key("teacher", number, *_known(source)),
        files=(),
        work=fit,
    )
    # fitted again when the stage is done: seconds, and nothing is unpickled from the run folder
    teacher = made[0] if made else source.fit(of_classes(shop.experiment.data, source.classes))
    return Ready(
        teacher=_mapped(teacher, source.label_map),
        name=source.name,
        description=source.description,
        seconds=_number(outcome["seconds"]),
        energy_wh=_number(outcome["energy_wh"]),
        co2_g=_number(outcome["co2_g"]),
        estimator=True,
    )


def _known(source: EstimatorSource) -> list[str]:
    return [source.key] if source.classes is None else [source.key, str(source.classes)]


def _ensemble(shop: Workshop, source: EnsembleSource) -> Ready:
    members = [_single(shop, member, number=i) for i, member in enumerate(source.members)]
    e = shop.experiment
    teacher = combined(source, [m.teacher for m in members], e.data, e.task)
    return Ready(
        teacher=teacher,
        name=f"ensemble of {len(members)}",
        description=described(source, [m.name for m in members]),
        modules=tuple(module for m in members for module in m.modules),
        seconds=_total([m.seconds for m in members]),
        energy_wh=_total([m.energy_wh for m in members]),
        co2_g=_total([m.co2_g for m in members]),
        estimator=any(m.estimator for m in members),
    )


def _mapped(teacher: Teacher, label_map: tuple[int, ...] | None) -> Teacher:
    return teacher if label_map is None else Relabelled(teacher, label_map)


def _total(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
