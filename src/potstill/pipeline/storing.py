"""Whether the teacher's answers go through a store, and why: decided once, kept, and printed."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Self, final

from potstill.data.feed import Feed
from potstill.data.samples import DataSet, Samples
from potstill.errors import RecipeError
from potstill.functional.tokens import IGNORED
from potstill.losses.divergence import DivergenceTerm
from potstill.pipeline.experiment import Experiment, Use
from potstill.protocols import LogitKind, Teacher
from potstill.signals import LazyLogits, Logits, Signals
from potstill.store import StoreKey
from potstill.store.codec import Codec
from potstill.store.codecs import DenseLogits, FloatTensor, Vocabulary
from potstill.store.labelling import FEATURES, LOGITS
from potstill.train import GrowingTeacher

OWN = "store"
"""Where a run keeps its store, in its folder."""

FREE_SHARE = 0.2
"""`store: auto` takes at most this share of the free disk."""

LEAST_PASSES = 2
"""`store: auto` wants to save at least half of the teacher's passes."""


@final
@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether the teacher's answers are stored.

    Args:
        used: the answer.
        reason: why, in one sentence with numbers.
        where: the folder or address; `None` is `store` in the run folder.
        passes: how often the students' epochs go through the samples.
        views: how often labelling does.
        records: samples times views.
        bytes: estimate of the store's size; `None` where it was not asked for.
        codecs: how each signal is written.
    """

    used: bool
    reason: str
    where: str | None
    passes: int
    views: int
    records: int
    bytes: int | None
    codecs: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """What `to_json` gave."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})  # type: ignore[arg-type]


def decide(experiment: Experiment, teacher: Teacher, *, folder: Path, feed: Feed) -> Decision:
    """Whether to store, from the recipe, the objective, the teacher and the disk.

    Args:
        experiment: what the run is about.
        teacher: as the students would ask it live.
        folder: the run folder.
        feed: of the labelling, for one question to the teacher about its signals.

    Raises:
        RecipeError: a store is asked for and cannot serve.
    """
    storing = experiment.storing
    views = num_views(experiment)
    passes = experiment.learning.settings.epochs * len(experiment.seeds)
    records = len(taught_samples(experiment.data)) * views
    found = Decision(
        used=False,
        reason="",
        where=storing.path,
        passes=passes,
        views=views,
        records=records,
        bytes=None,
        codecs={},
    )
    obstacle = None if storing.use is Use.OFF else obstacle_to(experiment, teacher)
    if storing.use is Use.OFF or obstacle is not None:
        if storing.use is Use.ON:
            raise RecipeError(f"`store` is asked for, and {obstacle}")
        return replace(
            found, reason="the recipe says `store: off`." if obstacle is None else obstacle
        )
    said = teacher.signals(feed.batch(0, 0), layers=experiment.objective.needs().teacher_layers)
    codecs = codecs_of(experiment, said)
    rows = records * rows_a_sample(taught_samples(experiment.data))
    size = round(rows * sum(codec.bytes_per_row(shape) for codec, shape in codecs.values()))
    found = replace(found, bytes=size, codecs={name: repr(c) for name, (c, _) in codecs.items()})
    if storing.use is Use.ON:
        return replace(found, used=True, reason="the recipe asks for it.")
    return _weighed(found, Path(storing.path or folder / OWN))


def _weighed(found: Decision, where: Path) -> Decision:
    assert found.bytes is not None
    if found.passes < LEAST_PASSES * found.views:
        return replace(
            found,
            reason=f"{found.passes} passes over the samples do not pay for {found.views} of "
            f"labelling; at least {LEAST_PASSES * found.views} would.",
        )
    free = None if (where / "manifest.json").exists() else _free_bytes(where)
    if free is not None and found.bytes > FREE_SHARE * free:
        return replace(
            found,
            reason=f"it would take {_mb(found.bytes)} and {FREE_SHARE:.0%} of the free disk is "
            f"{_mb(FREE_SHARE * free)}; give `store.path`, or a smaller `store.codec`.",
        )
    return replace(
        found,
        used=True,
        reason="the teacher is asked about each sample "
        f"{f'{found.views} times' if found.views > 1 else 'once'} instead of {found.passes} times.",
    )


_UNSTORED = {
    "boxes": "what detectors say at their places is not stored yet.",
    "transcript": "sounds have as many frames as they are long; a store keeps rows of one size.",
}


def obstacle_to(experiment: Experiment, teacher: Teacher) -> str | None:
    """Why a store cannot serve this experiment at all, if so."""
    learning, needs = experiment.learning, experiment.objective.needs()
    if isinstance(teacher, GrowingTeacher) or needs.teacher_members:
        return _never_the_same(teacher)
    made_anew = _made_anew(experiment)
    if made_anew is not None:
        return made_anew
    if experiment.task.kind in _UNSTORED:
        return _UNSTORED[experiment.task.kind]
    by_token = experiment.task.kind == "tokens"
    if (experiment.data.tokens is not None or by_token) and needs.teacher_layers:
        return (
            "the outputs of layers are as long as the longest text of their batch, and a store "
            "keeps rows of one size; leave out the terms that compare layers, or store nothing."
        )
    if learning.augment is not None and experiment.storing.views is None:
        return (
            "augmentation shows a fresh view each epoch; give `store.views` to store so many "
            "of each sample and rotate through them."
        )
    if not (needs.teacher_logits or needs.raw_teacher_logits or needs.teacher_layers):
        return "the objective asks the teacher nothing."
    if teacher.offers().logits is LogitKind.FOREIGN:
        return "the teacher has other tokens than the student, which no store holds yet."
    if by_token and experiment.storing.codec is None:
        if experiment.storing.use is Use.AUTO:
            return (
                "answers about every token are stored approximately, which is for you to choose: "
                "give `store.codec`, vocabulary (the best tokens and their tail) or sampled."
            )
        if not needs.sparse_teacher or temperature_of(experiment) is None:
            return (
                "the best tokens and their tail are kept at one temperature, and the objective "
                "has terms of several, or one that needs all tokens; give `store.codec`."
            )
    if teacher.offers().logits is LogitKind.SPARSE:
        return "the teacher's answers are kept already: it is a store, reads one, or asks a server."
    return None


def _made_anew(experiment: Experiment) -> str | None:
    if experiment.on_policy is not None:
        return (
            "the student writes some of the samples itself at every step, which no store holds; "
            "leave `distill.on_policy` out."
        )
    if experiment.learning.mix is not None:
        return "mixing makes new samples at every step, which no store holds; switch `mix` off."
    return None


def _never_the_same(teacher: Teacher) -> str:
    if isinstance(teacher, GrowingTeacher):
        return "the teacher changes at every step, with the student."
    return "a store keeps what several teachers say together, and a term wants each of them."


def codecs_of(experiment: Experiment, said: Signals) -> dict[str, tuple[Codec, tuple[int, ...]]]:
    """The codec and the row shape of each signal that the objective needs."""
    needs, storing = experiment.objective.needs(), experiment.storing
    found: dict[str, tuple[Codec, tuple[int, ...]]] = {}
    if needs.teacher_logits or needs.raw_teacher_logits:
        assert isinstance(said.logits, Logits | LazyLogits), "sparse ones are refused before"
        codec = storing.codec or _usual(experiment, said.logits)
        found[LOGITS] = (codec, (said.logits.num_classes,))
    for layer, values in said.features.items():
        name = FEATURES + layer
        found[name] = (storing.features or exact(name), tuple(values.shape[1:]))
    return found


def _usual(experiment: Experiment, logits: Logits | LazyLogits) -> Codec:
    """The codec where the user names none: exact, or of every token the best and their tail."""
    if isinstance(logits, Logits):
        return exact(LOGITS)
    return Vocabulary(temperature=temperature_of(experiment) or 1.0)


def temperature_of(experiment: Experiment) -> float | None:
    """The one temperature of all terms that compare probabilities; `None` if there are several."""
    found = {t.temperature for _, t in experiment.objective if isinstance(t, DivergenceTerm)}
    return found.pop() if len(found) == 1 else None


def rows_a_sample(samples: Samples) -> float:
    """How many rows of logits a sample has in the mean."""
    labels = samples.labels
    if labels is None or labels.ndim != 2 or labels.is_floating_point():
        return 1.0
    return float((labels != IGNORED).sum()) / max(len(samples), 1)


def exact(signal: str) -> Codec:
    """The codec that gives back the same float32 numbers."""
    return DenseLogits("fp32") if signal == LOGITS else FloatTensor("fp32")


def key_of(teacher: Teacher, feed: Feed, *, precision: str = "32-true") -> StoreKey:
    """What a teacher's answers about a feed's samples depend on."""
    origin = feed.batch(0, 0).origin
    assert origin is not None, "labelling does not mix"
    kind = teacher.offers().logits
    return StoreKey(
        teacher=teacher.fingerprint(),
        precision=precision,
        kind="" if kind is None else kind.value,
        preparation=origin.preparation,
        augment=origin.augment,
    )


def taught_samples(data: DataSet) -> Samples:
    """What the distilled students learn on."""
    if data.taught is not None:
        return data.taught
    return data.lessons if data.transfer is None else data.lessons.concat(data.transfer)


def labelling_feed(experiment: Experiment, teacher: Teacher, *, device: object) -> Feed:
    """The samples in order, view after view, in batches of the students' size.

    The same size as in training, so that a teacher prepared for it answers as it would there.
    """
    data, learning = experiment.data, experiment.learning
    return Feed(
        samples=(samples := taught_samples(data)),
        batch_size=min(learning.settings.batch_size, len(samples)),
        seed=0,
        normalise=data.normalise,
        augment=learning.augment,
        views=experiment.storing.views,
        device=str(device),
        shuffle=False,
        keep_raw=teacher.reads_raw,
    )


def num_views(experiment: Experiment) -> int:
    """How many views of each sample are labelled.

    Raises:
        RecipeError: several, and nothing is augmented.
    """
    views = experiment.storing.views or 1
    if views > 1 and experiment.learning.augment is None:
        raise RecipeError(
            f"`store.views` is {views} and nothing is augmented, so that all views would be the "
            "same. Give `distill.augment`, or leave the views out."
        )
    return views


def _free_bytes(folder: Path) -> int:
    """Free space where a folder is, or will be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
