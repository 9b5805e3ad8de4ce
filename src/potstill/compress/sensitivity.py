"""Which layers int8 hurts: each rounded alone, everything rounded but it, and what to leave out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import final

import torch

from potstill.compress.fake_quantised import FakeQuantised
from potstill.errors import RecipeError
from potstill.losses.objective import objective_of
from potstill.protocols import Task
from potstill.signals import Signals
from potstill.tasks import Classification
from potstill.train import Batches
from potstill.train.evaluate import answers_of, score


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of a model on validation data.

    Args:
        loss: mean of the task's loss.
        metric: the task's primary metric.
    """

    loss: float
    metric: float


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """What one layer in int8 does.

    Args:
        layer: its module name.
        alone: this layer rounded and nothing else.
        without: everything rounded but this layer.
    """

    layer: str
    alone: Figures
    without: Figures


@final
@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The table, and which layers are to stay in float.

    Args:
        primary: name of the metric.
        bound: by how much it may be worse than in float.
        whole: nothing rounded.
        rounded: everything rounded.
        layers: one record a layer, in the model's order.
        skip: layers to keep in float so that the bound holds, in the order they were chosen; for
            `Int8(skip=…)` and `quantise_onnx(skip=…)`.
        kept: everything rounded but `skip`.
        holds: whether the bound does.
    """

    primary: str
    bound: float
    whole: Figures
    rounded: Figures
    layers: tuple[LayerSensitivity, ...]
    skip: tuple[str, ...]
    kept: Figures
    holds: bool

    def to_json(self) -> dict[str, object]:
        """A plain record."""
        record = asdict(self)
        return {**record, "layers": list(record["layers"]), "skip": list(self.skip)}

    def table(self) -> str:
        """Markdown, the layers that hurt most first: changes from float, and from all in int8."""
        rows = [
            f"| layer | alone: loss | {self.primary} | all but it: loss | {self.primary} | stays |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
        ]
        for each in sorted(self.layers, key=lambda e: e.alone.loss, reverse=True):
            alone, without = each.alone, each.without
            rows.append(
                f"| `{each.layer}` | {alone.loss - self.whole.loss:+.4f} "
                f"| {alone.metric - self.whole.metric:+.4f} "
                f"| {without.loss - self.rounded.loss:+.4f} "
                f"| {without.metric - self.rounded.metric:+.4f} "
                f"| {'float' if each.layer in self.skip else 'int8'} |"
            )
        return "\n".join(rows) + "\n"


def sensitivity(
    student: FakeQuantised,
    validation: Batches,
    *,
    task: Task | None = None,
    bound: float = 0.002,
    most: int | None = None,
) -> Sensitivity:
    """Measure each layer, then leave the worst in float until the primary metric is within bounds.

    Layers are left out one after another, that first whose absence lowers the loss of the whole
    most; those whose absence does not help at all are not tried. Takes two passes over the data a
    layer and one for each that is left out. Nothing is prepared anew and nothing trained.

    Args:
        student: calibrated or trained; rounds everything again afterwards.
        validation: labelled; some thousand rows are enough.
        task: how models are called; classification if left out.
        bound: by how much the metric may be worse than in float, in its own unit.
        most: layers that may stay in float; half of them if left out.

    Raises:
        RecipeError: the bound is below 0.
    """
    if bound < 0:
        raise RecipeError(f"`bound` is {bound!r}; it must be 0 or more.")
    task = task or Classification()
    names = student.layers
    try:
        student.quantise_only([])
        whole = figures_of(student, validation, task)
        student.quantise_only(None)
        rounded = figures_of(student, validation, task)
        layers = tuple(_of_layer(student, name, validation, task) for name in names)
        limit = len(names) // 2 if most is None else most
        helpful = [e for e in layers if e.without.loss < rounded.loss]
        order = [e.layer for e in sorted(helpful, key=lambda e: e.without.loss)][:limit]
        skip, kept = _leave_out(student, order, rounded, whole, bound, validation, task)
    finally:
        student.quantise_only(None)
    return Sensitivity(
        primary=task.primary,
        bound=bound,
        whole=whole,
        rounded=rounded,
        layers=layers,
        skip=skip,
        kept=kept,
        holds=_is_within(kept, whole, bound, task),
    )


def figures_of(student: FakeQuantised, batches: Batches, task: Task) -> Figures:
    """Loss and primary metric of the student as it rounds now."""
    student.eval()
    metric = score(answers_of(student, batches, task), task)[task.primary]
    objective = objective_of(task.default_objective())
    total = torch.zeros((), dtype=torch.float64)
    rows = 0
    with torch.no_grad():
        for index in range(batches.num_batches):
            batch = batches.batch(0, index)
            said = task.forward(student, batch)
            total += len(batch) * objective(said, Signals(), task.target(batch)).loss.double().cpu()
            rows += len(batch)
    return Figures(loss=float(total) / rows, metric=metric)


def _of_layer(
    student: FakeQuantised, name: str, validation: Batches, task: Task
) -> LayerSensitivity:
    student.quantise_only([name])
    alone = figures_of(student, validation, task)
    student.quantise_all_but([name])
    return LayerSensitivity(layer=name, alone=alone, without=figures_of(student, validation, task))


def _leave_out(
    student: FakeQuantised,
    order: Sequence[str],
    rounded: Figures,
    whole: Figures,
    bound: float,
    validation: Batches,
    task: Task,
) -> tuple[tuple[str, ...], Figures]:
    skip: list[str] = []
    kept = rounded
    for name in order:
        if _is_within(kept, whole, bound, task):
            break
        student.quantise_all_but([*skip, name])
        now = figures_of(student, validation, task)
        if now.loss < kept.loss:
            skip.append(name)
            kept = now
    return tuple(skip), kept


def _is_within(figures: Figures, whole: Figures, bound: float, task: Task) -> bool:
    lost = whole.metric - figures.metric
    return (lost if task.higher_is_better else -lost) <= bound
