"""Before step one: what terms need against what teacher, student and data offer, all at once."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from potstill.errors import HandshakeError, PotstillError
from potstill.features.taps import known_layers
from potstill.losses import DivergenceTerm, Objective
from potstill.losses.divergence import wrong_for
from potstill.protocols import LogitKind, Needs, Offers, Task, Teacher
from potstill.signals import Batch, Signals, SparseLogits
from potstill.train.dry_run import dry_run
from potstill.train.layers import describe_pairs, objective_with_layers


@dataclass(frozen=True)
class Agreement:
    """The outcome of a handshake.

    Args:
        objective: with its projectors made.
        pairing: a line for each pair of layers, and other things worth knowing.
        named: the objective as it was given, but with names where layers were `auto`.
    """

    objective: Objective
    pairing: tuple[str, ...]
    named: Objective


def shake_hands(
    student: nn.Module,
    teacher: Teacher | None,
    *,
    objective: Objective,
    task: Task,
    batch: Batch,
    pieces: int = 1,
) -> Agreement:
    """Check one dry batch through everything and size the projectors.

    Args:
        student: what will be trained.
        teacher: what it learns from, if anything.
        objective: with terms that are not bound yet.
        task: how the student is called.
        batch: one batch of the training data, on the training device.
        pieces: into how many micro-batches, over all processes, each batch will be cut.

    Raises:
        HandshakeError: listing every problem found, each with its way out.
    """
    objective = objective_with_layers(objective, student, teacher, task=task, batch=batch)
    problems = list(_on_paper(student, teacher, objective, task, batch))
    if problems:  # what is wrong on paper would fail in the dry run too, less clearly
        problems += _widths(student, teacher, task, batch)
        raise HandshakeError(
            "\n".join(["This cannot be trained:", *(f"  - {p}" for p in problems)])
        )
    said, taught = dry_run(student, teacher, objective.needs(), task, batch)
    problems = list(_in_shapes(said, taught, objective, task, batch))
    if problems:
        raise HandshakeError(
            "\n".join(["This cannot be trained:", *(f"  - {p}" for p in problems)])
        )
    bound = objective.bind(said, taught)
    lines = (*describe_pairs(bound, said, taught), *_cut(bound, pieces))
    return Agreement(objective=bound, pairing=lines, named=objective)


def _on_paper(
    student: nn.Module, teacher: Teacher | None, objective: Objective, task: Task, batch: Batch
) -> Iterator[str]:
    offered = teacher.offers() if teacher is not None else None
    names = known_layers(student)
    for weighted in objective:
        term, needs = weighted.term, weighted.term.needs()
        yield from (f"{term.name}: {why}" for why in _unmet_by_teacher(needs, offered))
        yield from (f"{term.name}: {why}" for why in _unmet_by_data(needs, batch, task))
        for layer in needs.student_layers:
            if layer not in names:
                yield f"{term.name}: the student has no layer {layer!r}{_nearest(layer, names)}."
        if needs.student_weights and not any(p.requires_grad for p in student.parameters()):
            yield f"{term.name}: the student has no weights that train. Unfreeze some."


def _unmet_by_teacher(needs: Needs, offered: Offers | None) -> Iterator[str]:
    wants = needs.teacher_logits or needs.raw_teacher_logits or needs.teacher_layers
    if offered is None:
        if wants:
            yield "it needs a teacher and none was given. Give one, or leave the term out."
        return
    if needs.teacher_logits and offered.logits is None:
        yield "it needs the teacher's logits, and this teacher gives none."
    if needs.teacher_logits and not needs.sparse_teacher and offered.logits is LogitKind.SPARSE:
        yield (
            "it needs the teacher's logits of all classes, and this teacher gives the best ones "
            "and a tail. Use kd, or store all classes."
        )
    if needs.teacher_logits and not needs.foreign_teacher and offered.logits is LogitKind.FOREIGN:
        yield (
            "it needs a teacher with the student's tokens, and this one has a tokenizer of its "
            "own. Use cross_tokenizer_kd or uld."
        )
    if needs.raw_teacher_logits and offered.logits is LogitKind.LOGPROBS:
        yield (
            "it needs raw logits, and the teacher gives log-probabilities (which differ by an "
            "unknown constant a row). Use kd or probability_mse."
        )
    for layer in needs.teacher_layers:
        if offered.layers is None:
            yield f"it needs the teacher's layer {layer!r}, and this teacher shows no layers."
        elif layer not in offered.layers:
            yield f"the teacher has no layer {layer!r}{_nearest(layer, offered.layers)}."


def _unmet_by_data(needs: Needs, batch: Batch, task: Task) -> Iterator[str]:
    if (needs.labels or needs.class_labels) and batch.labels is None:
        yield "it needs labels and the data have none. Leave it out, or give labelled data."
    elif needs.class_labels and batch.labels is not None and batch.labels.is_floating_point():
        yield (
            "it needs one class a sample, and the labels are mixed or soft. "
            "Switch mixing off, or use kd."
        )
    if needs.drawn and batch.logprobs is None:
        yield (
            "it needs tokens that the student draws itself. Train it on-policy "
            "(`distill.on_policy`), or use reverse_kl."
        )
    if needs.kinds and task.kind not in needs.kinds:
        yield (
            f"it is for {' or '.join(sorted(needs.kinds))} targets, the task is {task.kind}"
            f"{_INSTEAD.get(task.kind, '')}."
        )


_INSTEAD = {
    "multi_label": "; use binary_kd, binary_probability_mse and binary_cross_entropy",
    "regression": "; use squared_error or huber",
    "single_label": "; use kd and cross_entropy",
}


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or list(names)[:5]
    return f" (did you mean {', '.join(repr(c) for c in close)}?)" if close else ""


def _widths(student: nn.Module, teacher: Teacher | None, task: Task, batch: Batch) -> list[str]:
    """What the class counts say, when there are other problems already."""
    try:
        said, taught = dry_run(student, teacher, Needs(), task, batch)
    except PotstillError as error:
        return [str(error)]
    return list(_class_counts(said, taught, task, batch))


def _in_shapes(
    said: Signals, taught: Signals, objective: Objective, task: Task, batch: Batch
) -> Iterator[str]:
    needs = objective.needs()
    yield from _class_counts(said, taught, task, batch)
    if isinstance(taught.logits, SparseLogits):
        yield from _kept_classes(objective, taught.logits)
    assert said.logits is not None, "a task's forward gives logits"
    classes = getattr(said.logits, "num_classes", 0)
    if classes < needs.min_classes:
        yield (
            f"the student has {classes} outputs, and the objective needs at least "
            f"{needs.min_classes}: over fewer a softmax teaches nothing. "
            "Use another term, or a multi-label or regression task."
        )


def _class_counts(said: Signals, taught: Signals, task: Task, batch: Batch) -> Iterator[str]:
    if task.kind == "embedding":  # widths may differ, and there are no labels
        return
    mine, theirs = (getattr(s.logits, "num_classes", None) for s in (said, taught))
    if mine is not None and theirs is not None and mine != theirs:
        yield (
            f"the student has {mine} outputs, the teacher {theirs}. If they know different "
            f"classes, give `label_map`: the teacher's number for each of the student's {mine}."
        )
    labels = batch.labels
    if labels is None or mine is None:
        return
    if task.kind in ("single_label", "tokens") and not labels.is_floating_point():
        highest = int(labels.max())
        if highest >= mine:
            yield (
                f"the data have class {highest}, the student only {mine} outputs "
                f"(0 to {mine - 1}). Give the student more outputs."
            )
    elif labels.ndim == 2 and labels.shape[1] != mine:
        yield f"the labels have {labels.shape[1]} columns, the student {mine} outputs."


def _kept_classes(objective: Objective, kept: SparseLogits) -> Iterator[str]:
    for _, term in objective:
        problem = wrong_for(term, kept) if isinstance(term, DivergenceTerm) else None
        if problem is not None:
            yield f"{term.name}: {problem}"


def _cut(objective: Objective, pieces: int) -> Iterator[str]:
    if pieces < 2:
        return
    for _, term in objective:
        if getattr(term, "batchwise", False):
            yield (
                f"{term.name}: it compares the rows of a batch, and each batch is cut into "
                f"{pieces} pieces; its value is that of the pieces. Set accumulate=1 to compare "
                "whole batches."
            )
