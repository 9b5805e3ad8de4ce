"""What a run is about, as objects: made from a recipe by `build`, or by hand in Python."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import final

import torch
from torch import nn

from potstill.data.augment import Augment
from potstill.data.curriculum import Curriculum, Pacing
from potstill.data.feed import Feed
from potstill.data.gold import GoldPairs
from potstill.data.mix import Mix
from potstill.data.samples import DataSet, Samples
from potstill.export.formats import Bound
from potstill.losses import Objective
from potstill.measure.harness import Harness
from potstill.models import ModelConfig
from potstill.protocols import Task, Teacher
from potstill.runtime.fast import Bounds
from potstill.signals import Batch
from potstill.store.codec import Codec
from potstill.synthesis import DataFree
from potstill.teachers import Combine, EstimatorTeacher, ViewAverage
from potstill.train import GrowingTeacher, OnPolicy, TrainSettings

ModelFactory = Callable[[int], nn.Module]


@final
@dataclass(frozen=True, kw_only=True)
class MadeModel:
    """A model and how to make it afresh.

    Args:
        make: a new module for a seed.
        name: short, for tables.
        description: one line.
        key: changes whenever what `make` returns does; part of the hash of a stage.
        config: how to rebuild it from a file; `None` for modules made by the user's own code.
        fitted: it is fitted in one go (`models.rule_students`) instead of trained by gradients;
            what `make` returns is empty.
        cut: of students, makes it of a copy of the teacher once that is trained; `make` before.
    """

    make: ModelFactory
    name: str
    description: str
    key: str
    config: ModelConfig | None = None
    fitted: bool = False
    cut: Callable[[nn.Module], nn.Module] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a model is trained, and what is done to its inputs meanwhile.

    Args:
        settings: of the training.
        augment: views of samples.
        mix: mixing of rows.
        curriculum: of distilled students: easy samples first.
        ranks: `[N]` of what is learnt from, 0 for the easiest; found by the run.
    """

    settings: TrainSettings = field(default_factory=TrainSettings)
    augment: Augment | None = None
    mix: Mix | None = None
    curriculum: Curriculum | None = None
    ranks: torch.Tensor | None = field(default=None, repr=False, compare=False)

    def feed(
        self,
        samples: Samples,
        data: DataSet,
        *,
        seed: int,
        device: object,
        raw: bool = False,
        views: int | None = None,
    ) -> Feed:
        """The batches of the training part; with `raw` inputs for teachers that read them.

        With `views` every seed shows the same ones, in turn; otherwise each shows fresh ones.
        """
        augment = self.augment
        if augment is not None and views is None:
            augment = replace(augment, seed=seed)
        return Feed(
            samples=samples,
            batch_size=min(self.settings.batch_size, len(samples)),
            seed=seed,
            normalise=data.normalise,
            augment=augment,
            mix=self.mix,
            device=str(device),
            num_classes=data.num_outputs,
            views=views,
            keep_raw=raw,
            pacing=self._pacing(len(samples)),
        )

    def _pacing(self, count: int) -> Pacing | None:
        if self.curriculum is None or self.ranks is None or len(self.ranks) != count:
            return None
        return Pacing(self.curriculum, self.ranks, self.settings.epochs)


@final
@dataclass(frozen=True, kw_only=True)
class TrainedTeacher:
    """A module that the run trains on the labels."""

    model: MadeModel
    learning: Learning
    label_map: tuple[int, ...] | None = None
    classes: tuple[int, ...] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class GivenTeacher:
    """A teacher that is ready. `module` is what it is made of, for size, export and timing."""

    teacher: Teacher
    name: str
    description: str
    module: nn.Module | None = None
    config: ModelConfig | None = None
    classes: tuple[int, ...] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class EstimatorSource:
    """A scikit-learn-like estimator that the run fits on the labels."""

    fit: Callable[[DataSet], EstimatorTeacher]
    name: str
    description: str
    key: str
    label_map: tuple[int, ...] | None = None
    classes: tuple[int, ...] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Route:
    """Which of several teachers each sample names. See `potstill.teachers.Routed`."""

    choose: Callable[[Batch], torch.Tensor]
    key: str
    reads_raw: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class EnsembleSource:
    """Several teachers as one.

    Those that have `classes` know these of the student's classes alone, in that order; if the run
    trains them, it does so on the samples of these classes.
    """

    members: tuple["TrainedTeacher | GivenTeacher | EstimatorSource", ...]
    weights: tuple[float, ...] | None = None
    combine: Combine = Combine.PROBABILITIES
    confidence: bool = False
    route: Route | None = None


@final
@dataclass(frozen=True, kw_only=True)
class GrowingSource:
    """A teacher that is made by the training it teaches: the student's average, or its peers.

    Args:
        make: a new one for a seed.
        kept: what is left of it after the training, by role, in the order of its importance.
        name: short, for tables.
        description: one line.
    """

    make: Callable[[int], GrowingTeacher]
    kept: Mapping[str, MadeModel]
    name: str
    description: str


TeacherSource = TrainedTeacher | GivenTeacher | EstimatorSource | EnsembleSource | GrowingSource


@final
@dataclass(frozen=True, kw_only=True)
class Link:
    """A model between teacher and student: taught by the one before it, teaches the next.

    Args:
        role: its name in the run folder, the results and the report.
        model: what is trained.
        learning: how.
        objective: what it minimises, with the one before as teacher.
        seed: of its first weights and its training; not one of the students'.
    """

    role: str
    model: MadeModel
    learning: Learning
    objective: Objective
    seed: int = 1001


@final
@dataclass(frozen=True, kw_only=True)
class Chain:
    """What stands between teacher and student.

    Args:
        links: in order; the last one teaches the student. Each is trained once, as the teacher is.
        direct: students that the teacher teaches itself are trained too, for comparison.
        together: the mean of the answers of all links and the student is measured too (the
            ensemble of generations of Furlanello et al. 2018).
    """

    links: tuple[Link, ...] = ()
    direct: bool = False
    together: bool = False

    @property
    def key(self) -> str:
        """Changes whenever what is trained or measured does; part of the hash of a stage."""
        each = [f"{k.role} {k.model.key} {k.learning} {k.objective} {k.seed}" for k in self.links]
        return f"{each} {self.direct} {self.together}"


@final
@dataclass(frozen=True, kw_only=True)
class Looks:
    """Test-time augmentation of the teacher: its mean over an input and augmented views of it.

    Args:
        augment: what makes a view; its seed is part of it.
        views: how many, beside the input itself.
    """

    augment: Augment
    views: int

    def around(self, teacher: Teacher, data: DataSet) -> ViewAverage:
        """The teacher that looks several times at every sample of the data."""

        def look(batch: Batch, number: int) -> Batch:
            # samples that come without an identity are all moved alike
            ids = torch.zeros(len(batch), dtype=torch.int64) if batch.ids is None else batch.ids
            ids = ids.to(batch.inputs.device)
            normalise = data.normalise.to(batch.inputs.device)
            before = 0 if batch.view is None else batch.view * self.views
            view = torch.zeros_like(ids) + before + number
            if batch.inputs.ndim == 4:
                unit = normalise.inverse(batch.inputs) / normalise.scale
                seen = self.augment(unit, ids=ids, view=view)
                raw, inputs = seen * normalise.scale, normalise.standard(seen)
            else:
                inputs = self.augment(batch.inputs, ids=ids, view=view)
                raw = normalise.inverse(inputs)
            return replace(batch, inputs=inputs, raw=raw, view=view)

        return ViewAverage(teacher, look, views=self.views, key=repr(self.augment))


@final
@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How models are measured: ONNX Runtime threads, seconds for latency, energy estimates.

    `prompts` is how many test prompts each language model answers, for ROUGE-L and exact match;
    `lm_eval` which tasks of the lm-evaluation-harness it is asked, if any. `pairs` are sentences
    with people's similarities, for models of embeddings. `hop_ms` is how much sound models that
    hear are given at a time when they are timed on a stream.
    """

    threads: int = 1
    seconds: float = 2.0
    energy: bool = True
    country: str | None = None
    prompts: int = 100
    hop_ms: float = 20.0
    lm_eval: Harness | None = None
    pairs: GoldPairs | None = None


class Use(StrEnum):
    """Whether the teacher's answers go through a store."""

    AUTO = "auto"  # when it pays
    ON = "on"
    OFF = "off"


@final
@dataclass(frozen=True, kw_only=True)
class Storing:
    """Whether and how the teacher's answers are written once and read by every student.

    Args:
        use: see `Use`.
        path: a folder or an fsspec address; `store` in the run folder if left out.
        views: with augmentation, how many views of each sample are stored and rotated through.
        codec: of logits; exact float32 if left out.
        features: the codec of features; exact float32 if left out.
    """

    use: Use = Use.AUTO
    path: str | None = None
    views: int | None = None
    codec: Codec | None = None
    features: Codec | None = None


class Keep(StrEnum):
    """Which of the teacher's beams a student learns on."""

    LIKELIEST = "likeliest"  # Kim and Rush 2016, section 3.2
    NEAREST = "nearest"  # to the data's own text, by BLEU: their section 3.3


@final
@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Sequence-level distillation: students learn on texts that the teacher wrote.

    Args:
        beams: of the teacher's search.
        keep: see `Keep`.
        share: of the training texts, how many are the teacher's; the others stay the data's.
        max_wer: of sounds, samples are left out whose text by the teacher has a higher word error
            rate against the data's; `None` keeps all.
    """

    beams: int = 4
    keep: Keep = Keep.LIKELIEST
    share: float = 1.0
    max_wer: float | None = None


class Correct(StrEnum):
    """What is done where students see classes less often than the teacher knows them."""

    PROPOSE = "propose"  # a correction of the output biases, with figures before and after
    AUTO = "auto"  # the same, and it is shipped
    OFF = "off"


class Speed(StrEnum):
    """How answers and steps are computed."""

    AUTO = "auto"  # the fastest way whose answers stay within the bounds
    EXACT = "exact"  # bit for bit the plain PyTorch loop


@final
@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that a run needs to know.

    Args:
        name: of the run and its folder.
        task: how models are called and scored.
        data: all parts of the data.
        teacher: where the teacher comes from.
        student: the model that is trained with and without the teacher.
        objective: what the distilled student minimises; scratch minimises the task's own loss.
        learning: of the student, the same with and without the teacher.
        looks: test-time augmentation of the teacher; `None` asks it once about each input.
        on_policy: of language models, how much the distilled student learns from its own answers;
            `None` for nothing. The control, scratch, learns from the data alone.
        seeds: one training of each student a seed.
        export: forms: `hf`, and those of `potstill.export.formats.Format`.
        parity: how far exported files may be from the student, by precision.
        measuring: see `Measuring`.
        storing: see `Storing`.
        device: `auto`, `cpu`, `cuda`, `mps`.
        precision: of the student's arithmetic.
        speed: see `Speed`.
        bounds: how far `auto` may be from exact.
        track: loggers that figures are also sent to.
        sequences: the teacher writes texts that the distilled students learn on.
        chain: models between teacher and student; `None` for none.
        correct_bias: see `Correct`.
        data_free: distilled students learn on images made from the teacher, and on no others.
        calibrate: the teacher's confidence is corrected on the validation data before it teaches.
        description: for the report.
        recipe: YAML of the recipe, if there is one.
    """

    name: str
    task: Task
    data: DataSet
    teacher: TeacherSource
    student: MadeModel
    objective: Objective
    learning: Learning = field(default_factory=Learning)
    looks: Looks | None = None
    on_policy: OnPolicy | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    export: tuple[str, ...] = ("onnx",)
    parity: Mapping[str, Bound] = field(default_factory=dict)
    measuring: Measuring = field(default_factory=Measuring)
    storing: Storing = field(default_factory=Storing)
    device: str = "auto"
    precision: str = "32-true"
    speed: Speed = Speed.AUTO
    bounds: Bounds = field(default_factory=Bounds)
    track: tuple[str, ...] = ()
    sequences: Sequences | None = None
    chain: Chain | None = None
    correct_bias: Correct = Correct.PROPOSE
    data_free: DataFree | None = None
    calibrate: bool = False
    description: str = ""
    recipe: str = ""
