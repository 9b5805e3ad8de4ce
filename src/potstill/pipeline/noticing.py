"""Whether students see the classes as often as their teacher knows them."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from potstill.data.frequencies import class_frequencies, distance
from potstill.data.samples import Samples, TargetKind
from potstill.pipeline.experiment import EstimatorSource, TrainedTeacher
from potstill.pipeline.storing import taught_samples
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.train.evaluate import answers_of

ASKED = 2048
"""At most so many of the taught samples is a teacher asked about for their class frequencies."""

APART = 0.05
"""Class frequencies that differ by more, in total variation and beyond chance, are noticed."""

EXPECTED = 20
"""Of fewer samples of a class than this nothing is concluded."""

RARE = 0.5
"""A class seen at most so many times as often as it is known is named."""


@final
@dataclass(frozen=True, kw_only=True)
class Frequencies:
    """How often classes are, `[C]` float64 each.

    Args:
        known: to the teacher: in its training data, or in the validation data.
        seen: by students: by the labels of what they learn on if all are known, else `answers`.
        answers: the teacher's mean probabilities on what students learn on.
        rare: classes that are seen much less often than they are known.
        apart: total variation of the two.
    """

    known: Tensor
    seen: Tensor
    answers: Tensor
    rare: tuple[int, ...]
    apart: float


def notice(shop: Workshop, teacher: Teacher) -> Frequencies | None:
    """The class frequencies of teacher and students where they differ; `None` where they do not.

    The teacher is asked about some of the taught samples only if their labels are not all known, or
    differ.
    """
    data = shop.experiment.data
    if data.target_kind is not TargetKind.SINGLE_LABEL:
        return None
    taught, classes = taught_samples(data), data.num_outputs
    trained_here = isinstance(shop.experiment.teacher, TrainedTeacher | EstimatorSource)
    source = data.train if trained_here else data.validation
    known_C = class_frequencies(source, classes)
    rows = min(len(source), len(taught))
    labels_C = class_frequencies(taught, classes) if bool(taught.label_mask().all()) else None
    if labels_C is not None and not _differ(known_C, labels_C, rows):
        return None
    answers_C = mean_probabilities(shop, teacher, taught)
    seen_C = answers_C if labels_C is None else labels_C
    if not _differ(known_C, seen_C, rows):
        return None
    return Frequencies(
        known=known_C,
        seen=seen_C,
        answers=answers_C,
        rare=tuple(_rare(known_C, seen_C, rows).nonzero()[:, 0].tolist()),
        apart=distance(known_C, seen_C),
    )


def _rare(known_C: Tensor, seen_C: Tensor, rows: int) -> Tensor:
    return (seen_C <= RARE * known_C) & (known_C * rows >= EXPECTED)


def _differ(known_C: Tensor, seen_C: Tensor, rows: int) -> bool:
    chance = 0.5 * (len(known_C) / rows) ** 0.5
    apart = distance(known_C, seen_C) > APART + chance
    return apart or bool(_rare(known_C, seen_C, rows).any())


def mean_probabilities(shop: Workshop, teacher: Teacher, samples: Samples) -> Tensor:
    """`[C]` float64, what the teacher makes of some evenly spaced samples on average."""
    rows = torch.linspace(0, len(samples) - 1, min(ASKED, len(samples))).long()
    some = samples.rows(rows)
    unasked = Samples(some.inputs, some.ids, torch.zeros(len(some), dtype=torch.int64))
    outputs = answers_of(teacher, shop.feed(unasked), shop.experiment.task).outputs
    return outputs.double().softmax(-1).mean(0)
