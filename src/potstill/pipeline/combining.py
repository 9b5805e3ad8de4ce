"""Several teachers as one, and which samples each of them is trained on."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from potstill.data.samples import DataSet, Samples, TargetKind
from potstill.errors import RecipeError
from potstill.pipeline.experiment import EnsembleSource
from potstill.protocols import Task, Teacher
from potstill.teachers import ClassUnion, Combine, Ensemble, Routed, Share


def combined(
    source: EnsembleSource, teachers: Sequence[Teacher], data: DataSet, task: Task
) -> Teacher:
    """The mean of the teachers, their union by classes, or the one that each sample names."""
    if source.route is not None:
        return Routed(
            teachers,
            source.route.choose,
            key=source.route.key,
            rows=lambda batch: task.target(batch).samples,
            reads_raw=source.route.reads_raw,
        )
    classes = [getattr(member, "classes", None) for member in source.members]
    if any(own is not None for own in classes):
        every = tuple(range(data.num_outputs))
        return ClassUnion(
            teachers,
            [every if own is None else own for own in classes],
            num_classes=data.num_outputs,
            weights=source.weights,
            share=_share(source),
        )
    return Ensemble(
        teachers,
        weights=source.weights,
        combine=source.combine,
        confidence=source.confidence,
        multi_label=task.kind == "multi_label",
    )


def _share(source: EnsembleSource) -> Share:
    if source.confidence:
        return Share.CONFIDENCE
    return Share.ENERGY if source.combine is Combine.LOGITS else Share.FIXED


def described(source: EnsembleSource, names: Sequence[str]) -> str:
    """One line about how the teachers are put together."""
    listed = ", ".join(names)
    if source.route is not None:
        return f"each sample names its own of {listed}"
    if any(getattr(member, "classes", None) is not None for member in source.members):
        return f"union of the classes of {listed}, shares by {_share(source)}"
    return f"mean of {source.combine} of {listed}"


def of_classes(data: DataSet, classes: tuple[int, ...] | None) -> DataSet:
    """The samples of some classes, whose labels are their places in `classes`.

    Raises:
        RecipeError: the data have not one class a sample, or none of these.
    """
    if classes is None:
        return data
    if data.target_kind is not TargetKind.SINGLE_LABEL or data.train.labels is None:
        raise RecipeError(
            f"`classes` of a teacher are for one class a sample; these data have {data.target_kind}"
            " targets."
        )
    parts = {
        name: _some(part, classes)
        for name, part in (("train", data.train), ("validation", data.validation))
    }
    for name, part in parts.items():
        if not len(part):
            raise RecipeError(f"No {name} sample is of the classes {list(classes)}.")
    names = None if data.classes is None else tuple(data.classes[c] for c in classes)
    return replace(
        data,
        train=parts["train"],
        validation=parts["validation"],
        num_outputs=len(classes),
        classes=names,
    )


def _some(samples: Samples, classes: tuple[int, ...]) -> Samples:
    assert samples.labels is not None, "training and validation data are labelled"
    place = samples.labels.new_full((int(samples.labels.max()) + 1,), -1)
    for number, name in enumerate(classes):
        if name < len(place):
            place[name] = number
    kept = samples.rows(_rows(place[samples.labels] >= 0))
    assert kept.labels is not None, "as above"
    return replace(kept, labels=place[kept.labels])


def _rows(chosen: Tensor) -> Tensor:
    return chosen.nonzero()[:, 0]
