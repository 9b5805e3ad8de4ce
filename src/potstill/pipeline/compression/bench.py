"""What a finished run gives to be squeezed: its teacher, its students, the teacher's answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from potstill.errors import RecipeError, StorageError
from potstill.losses.objective import Objective, needs_teacher, objective_of
from potstill.models import ModelConfig
from potstill.pipeline.calibrating import calibrated
from potstill.pipeline.climbing import climb
from potstill.pipeline.compression.options import Compression, Way
from potstill.pipeline.experiment import Experiment, GrowingSource, Learning, TrainedTeacher
from potstill.pipeline.inheriting import heir
from potstill.pipeline.labelling import Source, source_of_answers, teaching_feed
from potstill.pipeline.layers import with_layers
from potstill.pipeline.storing import taught_samples
from potstill.pipeline.teaching import Ready, get_teacher
from potstill.pipeline.training import SELECTED, restored
from potstill.pipeline.workshop import Workshop
from potstill.signals import Signals
from potstill.train.settings import Select

KINDS = ("single_label", "multi_label", "regression")
_LOOKS = 8  # batches on which importance is seen, at most


@final
@dataclass(frozen=True, kw_only=True)
class Start:
    """A trained model that a way begins with, and how it is rebuilt."""

    module: nn.Module
    config: ModelConfig | None
    name: str


@final
@dataclass(frozen=True, kw_only=True)
class Bench:
    """A run that is done, ready to be squeezed.

    Args:
        ready: its teacher.
        source: whom trainings ask.
        objective: what they minimise with the teacher; terms on layers are left out.
        students: by role and seed.
        options: what was asked for.
    """

    ready: Ready
    source: Source
    objective: Objective
    students: Mapping[tuple[str, int], Start]
    options: Compression
    seeds: tuple[int, ...]
    teacher: Start | None

    def start(self, way: Way, seed: int, *, taught: bool) -> Start:
        """What a way begins with."""
        if way.distils:
            return self.students["distilled" if taught else "scratch", seed]
        if self.teacher is None:
            raise RecipeError(
                f"The way `{way}` begins with the teacher, which is no single torch module here; "
                "leave it out: --ways distil,distil+prune,distil+quantise,distil+prune+quantise."
            )
        return self.teacher

    def references(self) -> dict[str, list[Start]]:
        """The teacher, if it is one module, and both students of the run, by role."""
        found = {} if self.teacher is None else {"teacher": [self.teacher]}
        for role in ("distilled", "scratch"):
            found[role] = [self.students[role, seed] for seed in self.seeds]
        return found


def bench_of(shop: Workshop, options: Compression) -> Bench:
    """What the run in the workshop's folder gives; its stages are done already.

    Raises:
        RecipeError: the run is of a kind that cannot be squeezed.
        StorageError: students are missing.
    """
    refuse(shop.experiment)
    ready = calibrated(shop, get_teacher(shop))
    teacher = ready.teacher.to(shop.runtime.device)
    with_layers(shop, teacher, teaching_feed(shop, teacher).batch(0, 0))
    above = teacher if shop.experiment.chain is None else climb(shop, ready).teacher
    source = source_of_answers(shop, above)
    e = shop.experiment
    seeds = options.seeds or e.seeds
    strange = sorted(set(seeds) - set(e.seeds))
    if strange:
        raise RecipeError(
            f"The run has the seeds {list(e.seeds)} and {strange} were asked for; run it with them "
            "first, or leave `seeds` out."
        )
    return Bench(
        ready=ready,
        source=source,
        objective=plain(e.objective),
        students=_students(shop, ready, seeds),
        options=options,
        seeds=seeds,
        teacher=_teacher(e, ready),
    )


def refuse(experiment: Experiment) -> None:
    """Runs whose models are not squeezed.

    Raises:
        RecipeError: says which, and what to do.
    """
    kind, teacher = experiment.task.kind, experiment.teacher
    if kind not in KINDS and experiment.task.name != "causal_lm":
        raise RecipeError(
            f"`compress` squeezes models of one answer a sample ({', '.join(KINDS)}) and language "
            f"models, and this run is of {experiment.task.name or kind}; its students are made "
            "smaller in the recipe."
        )
    if isinstance(teacher, GrowingSource) or experiment.data_free is not None:
        raise RecipeError(
            "`compress` asks a teacher that is ready about the data; a teacher that grows with its "
            "student, or images made of it, are not asked again."
        )
    if experiment.student.fitted or "exits" in (config_options(experiment) or {}):
        raise RecipeError(
            "The student is a tree, a list of rules, or has early exits, whose channels are not "
            "pruned; squeeze a plain network."
        )


def config_options(experiment: Experiment) -> Mapping[str, object] | None:
    """Of the student's model."""
    return None if experiment.student.config is None else experiment.student.config.options


def plain(objective: Objective) -> Objective:
    """The summands that compare answers alone; pruned layers have other names and widths.

    Raises:
        RecipeError: none of them asks the teacher.
    """
    kept = [
        s for s in objective if not (n := s.term.needs()).teacher_layers and not n.student_layers
    ]
    left = Objective(tuple(kept)) if kept else None
    if left is None or not needs_teacher(left.needs()):
        raise RecipeError(
            "Every term that asks the teacher compares layers, and squeezed models have other "
            "layers than the teacher; add a term on answers to the objective, such as `kd`."
        )
    return left


def labels_alone(shop: Workshop) -> Objective:
    """What trainings without the teacher minimise: the task's own."""
    return objective_of(shop.experiment.task.default_objective())


def shortened(
    learning: Learning, epochs: int, rate: float = 1.0, *, to_the_end: bool = False
) -> Learning:
    """The run's own way of training, for so many epochs, at so many times its learning rate."""
    own = learning.settings
    select = Select.LAST if to_the_end else own.select
    settings = replace(own, epochs=epochs, lr=own.lr * rate, patience=None, select=select)
    return replace(learning, settings=settings, curriculum=None)


def losses(shop: Workshop, bench: Bench, model: nn.Module, *, taught: bool) -> Iterator[Tensor]:
    """The loss of each of a few training batches, for importance."""
    e = shop.experiment
    source = bench.source.teacher if taught else None
    objective = bench.objective if taught else labels_alone(shop)
    raw = source is not None and source.reads_raw
    samples = taught_samples(e.data) if taught else e.data.lessons
    views = bench.source.views if taught else None
    feed = e.learning.feed(samples, e.data, seed=0, device="cpu", raw=raw, views=views)
    size = max(1, bench.options.rows // max(feed.batch_size, 1))
    for index in range(min(size, _LOOKS, feed.num_batches)):
        batch = feed.batch(0, index)
        with torch.no_grad():
            said = Signals() if source is None else source.signals(batch)
        student = e.task.forward(model, batch)
        target = e.task.target(batch)
        yield objective(student, said, target).loss


def _students(shop: Workshop, ready: Ready, seeds: tuple[int, ...]) -> dict[tuple[str, int], Start]:
    made = shop.experiment.student
    models = {"distilled": heir(made, ready), "scratch": made}
    found = {}
    for (role, model), seed in ((each, seed) for each in models.items() for seed in seeds):
        folder = shop.models(role, seed)
        if not (folder / SELECTED).is_file():
            raise StorageError(
                f"{folder} holds no trained student; finish the run with `potstill run` first."
            )
        module = restored(model, folder, num_outputs=shop.num_outputs)
        found[role, seed] = Start(module=module, config=model.config, name=model.name)
    return found


def _teacher(experiment: Experiment, ready: Ready) -> Start | None:
    """The teacher's module, where it is one whose answers are the teacher's."""
    source = experiment.teacher
    if len(ready.modules) != 1 or isinstance(source, GrowingSource):
        return None
    model = source.model if isinstance(source, TrainedTeacher) else None
    config = getattr(source, "config", None) if model is None else model.config
    return Start(module=ready.modules[0], config=config, name=ready.name)
