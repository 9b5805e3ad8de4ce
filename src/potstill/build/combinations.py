"""Parts of an experiment that know nothing of each other: refused before anything is trained."""

from collections.abc import Iterator

from potstill.errors import RecipeError
from potstill.models import ReusedHead
from potstill.pipeline.experiment import (
    Correct,
    EnsembleSource,
    EstimatorSource,
    Experiment,
    GivenTeacher,
    GrowingSource,
    TrainedTeacher,
    Use,
)
from potstill.pipeline.storing import taught_samples
from potstill.teachers import Relabelled

_ROWS = frozenset({"single_label", "multi_label", "regression"})
"""Kinds of targets with one row a sample, whose losses count samples by their weights."""


def refuse_strangers(experiment: Experiment) -> None:
    """Refuse what would be ignored, or fail after hours.

    Raises:
        RecipeError: the first such combination, with its way out.
    """
    for found in (_of_growing, _of_fitted, _of_chains, _of_images, _of_teachers, _of_samples):
        for problem in found(experiment):
            raise RecipeError(problem)


def _of_growing(e: Experiment) -> Iterator[str]:
    if not isinstance(e.teacher, GrowingSource):
        return
    given = {
        "`distill.data_free`": e.data_free is not None,
        "`distill.sequences`": e.sequences is not None,
        "`distill.curriculum`": e.learning.curriculum is not None,
        "`teacher.calibrate`": e.calibrate,
        "`teacher.tta`": e.looks is not None,
        "`store: on`": e.storing.use is Use.ON,
        "`chain`": e.chain is not None,
    }
    for key in (key for key, is_given in given.items() if is_given):
        yield (
            f"{key} needs a teacher that is ready before its students, and this one grows with "
            "them; leave one of the two out."
        )
    if e.student.fitted or any(model.fitted for model in e.teacher.kept.values()):
        yield (
            "A student that is fitted in one go has no steps in which a teacher could grow with "
            "it; give a teacher that is a model."
        )
    for _, term in e.objective:
        if term.rehearsals():
            yield (
                f"`{term.name}` learns from the teacher before the student does, and a teacher "
                "that grows with the student knows nothing yet; leave the term out."
            )


def _of_fitted(e: Experiment) -> Iterator[str]:
    if not e.student.fitted:
        return
    if e.learning.curriculum is not None:
        yield (
            f"`{e.student.name}` is fitted in one go and sees its rows in no order; leave "
            "`distill.curriculum` out."
        )
    if getattr(e.task, "class_weights", None) is not None:
        yield f"`{e.student.name}` counts all rows alike; leave `class_weights` out."
    if taught_samples(e.data).weights is not None:
        yield f"`{e.student.name}` counts all rows alike; leave `data.transfer.weight` out."


def _of_chains(e: Experiment) -> Iterator[str]:
    if e.chain is None:
        return
    if e.chain.together and e.task.kind in ("boxes", "transcript"):
        yield (
            f"`chain.together` means the answers of several models, which is not built for "
            f"{e.task.kind}; leave it out."
        )
    if e.chain.links and isinstance(e.student.make(0), ReusedHead):
        yield (
            "A student with the teacher's classifier learns from that teacher alone; leave "
            "`chain` or `student.head` out."
        )


def _of_images(e: Experiment) -> Iterator[str]:
    if e.data_free is None:
        return
    if e.task.kind != "single_label" or len(e.data.input_shape) != 3:
        yield (
            "`distill.data_free` makes images of classes, and these data are "
            f"{e.data.kind}s for {e.task.kind}; leave it out."
        )
    source, one = e.teacher, "one network with the student's classes"
    unfit = isinstance(source, EstimatorSource | EnsembleSource)
    if isinstance(source, TrainedTeacher):
        unfit = source.label_map is not None
    elif isinstance(source, GivenTeacher):
        unfit = source.module is None or isinstance(source.teacher, Relabelled)
    if unfit:
        yield f"`distill.data_free` needs gradients of the teacher; give {one} (no `label_map`)."
    links = () if e.chain is None else e.chain.links
    for objective in (e.objective, *(link.objective for link in links)):
        for _, term in objective:
            if term.needs().labels or term.needs().class_labels:
                yield (
                    f"`{term.name}` needs labels, and images made from the teacher "
                    "(`distill.data_free`) have none; leave the term out."
                )


def _of_teachers(e: Experiment) -> Iterator[str]:
    if e.calibrate and e.task.kind != "single_label":
        yield (
            f"Calibration is for classes, one a sample, and the task is {e.task.kind}; leave "
            "`teacher.calibrate` out."
        )
    if e.calibrate and e.objective.needs().teacher_members:
        yield (
            "`teacher.calibrate` corrects what several teachers say together, and a term wants "
            "each of them; leave `calibrate` out, or use kd."
        )
    if e.looks is not None and e.data.normalise.masked:
        yield (
            "`teacher.tta` is not built for sounds of unequal length, whose padding it would move "
            "too; leave it out."
        )


def _of_samples(e: Experiment) -> Iterator[str]:
    kind = e.task.kind
    if e.learning.curriculum is not None and kind != "single_label":
        yield (
            "A curriculum goes by the teacher's highest probability, which needs one class a "
            f"sample; the task is {kind}. Leave `distill.curriculum` out."
        )
    if e.correct_bias is Correct.AUTO and kind != "single_label":
        yield (
            "`distill.correct_bias: auto` is for classes, one a sample, and the task is "
            f"{e.task.name or kind}; leave it out."
        )
    if kind not in _ROWS and taught_samples(e.data).weights is not None:
        yield (
            "`data.transfer.weight` counts samples with one row each, and the task is "
            f"{e.task.name or kind}; leave the weight out."
        )
