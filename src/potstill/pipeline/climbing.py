"""What is trained beside teacher, scratch and distilled: links of a chain, peers, averages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import nn

from potstill.pipeline.experiment import (
    Chain,
    EnsembleSource,
    Experiment,
    GrowingSource,
    Link,
    MadeModel,
    TrainedTeacher,
)
from potstill.pipeline.storing import taught_samples
from potstill.pipeline.teaching import Ready, ready_from
from potstill.pipeline.training import Assigned, restored, train
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.teachers import Ensemble, ModuleTeacher
from potstill.train import Distiller
from potstill.train.pace import Pace

DIRECT, TOGETHER = "direct", "generations"


@final
@dataclass(frozen=True, kw_only=True)
class Other:
    """A role beside the three that every run has.

    Args:
        role: its name.
        model: what was trained.
        seeds: for which a model lies in the run folder.
        taught_by: the role of its teacher.
        has_epochs: whether the last and the best epoch's weights are kept.
    """

    role: str
    model: MadeModel
    seeds: tuple[int, ...]
    taught_by: str
    has_epochs: bool = True


def others_of(experiment: Experiment) -> tuple[Other, ...]:
    """The further roles of a run, in the order in which they teach."""
    found: list[Other] = []
    before = "teacher"
    for link in _links(experiment):
        found.append(Other(role=link.role, model=link.model, seeds=(link.seed,), taught_by=before))
        before = link.role
    e, chain = experiment, experiment.chain
    if chain is not None and chain.direct:
        found.append(Other(role=DIRECT, model=e.student, seeds=e.seeds, taught_by="teacher"))
    if isinstance(e.teacher, GrowingSource):
        found += [
            Other(role=role, model=model, seeds=e.seeds, taught_by="distilled", has_epochs=False)
            for role, model in e.teacher.kept.items()
            if role != "teacher"
        ]
    return tuple(found)


def chain_of(experiment: Experiment) -> list[dict[str, str]]:
    """Who taught whom, from the first teacher to the student; empty where there is no chain."""
    links = [other for other in others_of(experiment) if other.role != DIRECT]
    if experiment.chain is None:
        return []
    last = links[-1].role if links else "teacher"
    pairs = [(o.role, o.taught_by) for o in links] + [("distilled", last)]
    if experiment.chain.direct:
        pairs.append((DIRECT, "teacher"))
    return [{"role": role, "taught_by": by} for role, by in [("teacher", ""), *pairs]]


def is_no_judge(experiment: Experiment) -> bool:
    """Whether the teacher's own score says nothing of what it can teach.

    Born again, it is meant to be no better. Teachers of different classes do not know which of them
    a sample is for; a term that compares each over its own classes does not need to.
    """
    source = experiment.teacher
    if isinstance(source, TrainedTeacher):
        return source.model.key == experiment.student.key
    if isinstance(source, EnsembleSource):
        by_classes = any(member.classes is not None for member in source.members)
        return by_classes and experiment.objective.needs().teacher_members
    return False


def _links(experiment: Experiment) -> tuple[Link, ...]:
    return () if experiment.chain is None else experiment.chain.links


def climb(shop: Workshop, ready: Ready) -> Ready:
    """Train the links of the chain in turn; the last of them, or the teacher if there is none."""
    for link in _links(shop.experiment):
        ready = _climbed(shop, link, ready)
    return ready


def _climbed(shop: Workshop, link: Link, above: Ready) -> Ready:
    experiment, data = shop.experiment, shop.experiment.data
    samples, teacher = taught_samples(data), above.teacher.to(shop.runtime.device)
    raw, device = teacher.reads_raw, shop.runtime.device
    feed = link.learning.feed(samples, data, seed=link.seed, device=device, raw=raw)
    settings = link.learning.settings

    def pace() -> Pace:
        return shop.hastening.pace(
            f"training {link.role}",
            link.model,
            lambda: feed,
            teacher=teacher,
            objective=link.objective,
            settings=settings,
        )

    layers = link.objective.needs().teacher_layers
    steps = settings.epochs * feed.num_batches
    made = [str(each) for each in (experiment.sequences, experiment.data_free) if each is not None]
    train(
        shop,
        Assigned(
            role=link.role,
            seed=link.seed,
            model=link.model,
            learning=link.learning,
            samples=samples,
            objective=link.objective,
            teacher=shop.hastening.teacher(teacher, feed, steps=steps, layers=layers),
            written_by=" ".join(made),
            pace=pace,
        ),
    )
    module = restored(link.model, shop.models(link.role, link.seed), num_outputs=shop.num_outputs)
    outcome = shop.ledger.outcome(f"{link.role}/{link.seed}")
    return ready_from(
        outcome, link.model, ModuleTeacher(module, experiment.task), modules=(module,)
    )


def stand_ins(experiment: Experiment, teacher: Teacher) -> Iterator[tuple[Link, Teacher, Teacher]]:
    """Each link with the teacher above it and itself as a teacher, with first weights."""
    for link in _links(experiment):
        mine = ModuleTeacher(link.model.make(0), experiment.task)
        yield link, teacher, mine
        teacher = mine


def check_growing(shop: Workshop, source: GrowingSource) -> None:
    """The whole handshake, over the first batch, before anything is trained."""
    e, device = shop.experiment, shop.runtime.device
    feed = e.learning.feed(taught_samples(e.data), e.data, seed=0, device=device)
    Distiller(
        e.student.make(0),
        source.make(0),
        objective=e.objective,
        task=e.task,
        settings=e.learning.settings,
        runtime=shop.runtime,
    ).prepare(feed.batch(0, 0))


def grown(shop: Workshop, source: GrowingSource) -> Ready:
    """What the first seed's teacher has become, once the students are trained."""
    task, seed = shop.experiment.task, shop.experiment.seeds[0]
    modules: list[nn.Module] = []
    for role, model in source.kept.items():
        folder = shop.models(role, seed)
        modules.append(restored(model, folder, num_outputs=shop.num_outputs))
    each = [ModuleTeacher(module, task) for module in modules]
    teacher: Teacher = each[0]
    if len(each) > 1:
        teacher = Ensemble(each, multi_label=task.kind == "multi_label")
    return Ready(
        teacher=teacher,
        name=source.name,
        description=source.description,
        modules=tuple(modules),
    )


def together(shop: Workshop, chain: Chain, seed: int) -> Teacher:
    """The mean of all links and the distilled student of a seed."""
    task, outputs = shop.experiment.task, shop.num_outputs
    made = [
        restored(k.model, shop.models(k.role, k.seed), num_outputs=outputs) for k in chain.links
    ]
    student = shop.models("distilled", seed)
    made.append(restored(shop.experiment.student, student, num_outputs=outputs))
    each = [ModuleTeacher(module, task) for module in made]
    return Ensemble(each, multi_label=task.kind == "multi_label")
