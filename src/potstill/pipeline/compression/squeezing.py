"""One way, one seed: take channels away, train, take more away, train again."""

import functools
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import final

from torch import Tensor, nn

from potstill.compress.pruning import prune_to
from potstill.compress.weight import Precision, bytes_of
from potstill.models import ModelConfig, create_model
from potstill.models.initial import seeded
from potstill.models.pruned import pruned_config, sizes_of
from potstill.pipeline.compression.bench import Bench, Start, labels_alone, losses, shortened
from potstill.pipeline.compression.options import Way
from potstill.pipeline.compression.plan import Plan, Planned, narrowed, precision_of
from potstill.pipeline.experiment import MadeModel
from potstill.pipeline.foreseeing import as_long
from potstill.pipeline.storing import taught_samples
from potstill.pipeline.training import Assigned, restored, train
from potstill.pipeline.workshop import Workshop
from potstill.teachers.fingerprints import module_digest


@final
@dataclass(kw_only=True)
class Piece:
    """A model on its way to a smaller one, and what was spent on it so far."""

    module: nn.Module
    config: ModelConfig | None
    epochs: int = 0
    seconds: float = 0.0
    stages: list[str] = field(default_factory=list)


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """One way with one seed, with the teacher or without it."""

    shop: Workshop
    bench: Bench
    plan: Plan
    planned: Planned
    seed: int
    taught: bool

    @property
    def way(self) -> Way:
        """Which way."""
        return self.planned.way

    @property
    def role(self) -> str:
        """Where its models lie: `distil-prune-with`."""
        name = self.way.replace("+", "-").replace(":", "of")
        return f"{name}-{'with' if self.taught else 'without'}"

    @property
    def epochs(self) -> int:
        """Of all its trainings together."""
        own = self.shop.experiment.learning.settings.epochs
        return self.bench.options.epochs or own

    def start(self) -> Start:
        """The trained model that it begins with."""
        return self.bench.start(self.way, self.seed, taught=self.taught)


def squeezed(job: Job) -> Piece:
    """The model of a way before it is quantised; what is trained already is read."""
    start = job.start()
    most, precision = job.plan.weights(job.planned), precision_of(job.way)
    piece = Piece(module=start.module, config=start.config)
    if bytes_of(start.module, precision) <= most or job.way is Way.QUANTISE:
        return piece
    if job.way.prunes:
        return _pruned(job, piece, most, precision)
    return _afresh(job, start, most, precision)


def _afresh(job: Job, start: Start, most: int, precision: Precision) -> Piece:
    """A student of the same kind with fewer channels, trained from random weights."""
    cut = narrowed(job.shop, start, most, precision, job.bench.options)
    sizes = sizes_of(start.module), sizes_of(cut)
    config = None if start.config is None else pruned_config(start.config, *sizes)
    made = MadeModel(
        make=functools.partial(_random, cut, config),
        name=start.name,
        description=f"{start.name}, narrowed",
        key=f"{start.name} {sizes[1]}",
        config=config,
    )
    return trained(job, Piece(module=cut, config=config), made, job.epochs, "student")


def _random(cut: nn.Module, config: ModelConfig | None, seed: int) -> nn.Module:
    if config is not None:
        return create_model(config, seed=seed)
    fresh = deepcopy(cut)
    with seeded(seed):
        for layer in fresh.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
    return fresh.train()


def _pruned(job: Job, piece: Piece, most: int, precision: Precision) -> Piece:
    """Channels go in steps of equal ratio; after each, training with what is left."""
    steps = job.bench.options.steps
    first = bytes_of(piece.module, precision)
    for number, epochs in enumerate(job.bench.options.shares(job.epochs, stages=steps), start=1):
        goal = first * (most / first) ** (number / steps)
        cut = prune_to(
            piece.module,
            job.shop.experiment.data.example(),
            most=goal,
            weigh=lambda module: bytes_of(module, precision),
            importance=job.bench.options.importance,
            look=lambda module: _losses(job, module),
            round_to=job.bench.options.round_to,
        )
        sizes = sizes_of(piece.module), sizes_of(cut)
        config = None if piece.config is None else pruned_config(piece.config, *sizes)
        made = made_of(cut, config, name=f"{job.way}, step {number}")
        piece = trained(
            job,
            Piece(module=cut, config=config, epochs=piece.epochs, seconds=piece.seconds),
            made,
            epochs,
            f"step-{number}",
        )
    return piece


def _losses(job: Job, module: nn.Module) -> Iterator[Tensor]:
    return losses(job.shop, job.bench, module, taught=job.taught)


def made_of(module: nn.Module, config: ModelConfig | None, *, name: str) -> MadeModel:
    """A model that a training starts from as it is."""
    return MadeModel(
        make=lambda _seed: deepcopy(module).train(),
        name=name,
        description=name,
        key=module_digest(module),
        config=config,
    )


def trained(
    job: Job,
    piece: Piece,
    made: MadeModel,
    epochs: int,
    part: str,
    *,
    rate: float = 1.0,
    to_the_end: bool = False,
) -> Piece:
    """The stage that trains a piece, with the teacher's answers or with labels alone.

    Args:
        job: which.
        piece: what was spent before.
        made: what is trained.
        epochs: how long.
        part: the stage's name within the way.
        rate: times the run's own learning rate.
        to_the_end: the last epoch's weights are the result, whatever the recipe selects.
    """
    shop, bench = job.shop, job.bench
    e, source = shop.experiment, bench.source
    role = f"{job.role}-{part}"
    learning = shortened(e.learning, epochs, rate, to_the_end=to_the_end)
    if not job.taught:  # as many steps, also where only a teacher can use all samples
        learning = as_long(learning, e.data)
    outcome = train(
        shop,
        Assigned(
            role=role,
            seed=job.seed,
            model=made,
            learning=learning,
            samples=taught_samples(e.data) if job.taught else e.data.lessons,
            objective=bench.objective if job.taught else labels_alone(shop),
            teacher=source.teacher if job.taught else None,
            views=source.views if job.taught else None,
        ),
    )
    folder = shop.models(role, job.seed)
    seconds = outcome["seconds"]
    assert isinstance(seconds, int | float), "`train` wrote it"
    return Piece(
        module=restored(made, folder, num_outputs=shop.num_outputs),
        config=made.config,
        epochs=piece.epochs + epochs,
        seconds=piece.seconds + seconds,
        stages=[*piece.stages, f"{role}/{job.seed}"],
    )
