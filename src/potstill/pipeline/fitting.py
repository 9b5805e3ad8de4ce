"""Students that are fitted in one go instead of trained: the targets, the fit, the files.

What the objective asks for is turned into one target a row: the teacher's probabilities (at
the term's temperature) and the labels, weighted as their terms are. See `models.rule_growing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from potstill.data.samples import DataSet, Samples
from potstill.errors import HandshakeError
from potstill.losses import Objective, Ramp
from potstill.measure.energy import metered
from potstill.models import ModelConfig
from potstill.models.rule_students import DecisionTree, drawn_rows, fit_rules, fitter_of
from potstill.models.rule_text import Naming, described, list_lines, tree_lines
from potstill.models.rules import NO_LABEL, FitRows
from potstill.pipeline.experiment import Learning
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.runtime.files import write_json
from potstill.signals import Batch, LazyLogits, Logits
from potstill.train.evaluate import answers_of, score

RULES = "rules.json"


class Part(NamedTuple):
    """What one term asks a target to be made of."""

    weight: float
    of_teacher: bool
    temperature: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitting:
    """One fit: who is fitted to what. As `Assigned` is for trainings."""

    stage: str
    seed: int
    config: ModelConfig
    learning: Learning
    samples: Samples
    objective: Objective
    teacher: Teacher | None
    views: int | None


def parts_of(objective: Objective) -> list[Part]:
    """The objective as parts of a target.

    Raises:
        HandshakeError: a term is about more than a model's answers row by row.
    """
    found = []
    for weight, term in objective:
        needs = term.needs()
        inner = needs.student_layers or needs.teacher_layers or needs.student_weights
        whole = needs.second_view or needs.drawn or needs.teacher_members
        whole = whole or bool(getattr(term, "batchwise", False))
        if inner or whole or not (needs.teacher_logits or needs.labels):
            raise HandshakeError(
                f"{term.name}: a student that is fitted has no layers, weights or views. Use kd "
                "(binary_kd, squared_error of the teacher) and cross_entropy."
            )
        temperature = float(getattr(term, "temperature", 1.0)) if needs.teacher_logits else 1.0
        if isinstance(weight, Ramp) or term.moves:
            raise HandshakeError(
                f"{term.name}: a student that is fitted in one go has no steps over which a weight "
                "or an option could move; give a number."
            )
        if getattr(term, "class_weights", None) is not None:
            raise HandshakeError(
                f"{term.name}: a student that is fitted counts all rows alike; leave "
                "`class_weights` out."
            )
        found.append(Part(weight, needs.teacher_logits, temperature))
    return found


def fit(shop: Workshop, task: Fitting, folder: Path) -> tuple[nn.Module, dict[str, object]]:
    """Fit a student, write what it says in words, and return it with its outcome."""
    experiment = shop.experiment
    data, measuring, kind = experiment.data, experiment.measuring, experiment.task.kind
    with metered(task.stage, enabled=measuring.energy, country=measuring.country) as meter:
        table = gathered(shop, task)
        module, rules = fit_rules(
            task.config,
            table,
            kind=kind,
            normalise=data.normalise,
            seed=task.seed,
        )
    naming = Naming(features=_features(data), classes=data.classes, kind=kind)
    is_tree = isinstance(fitter_of(task.config), DecisionTree)
    lines = (tree_lines if is_tree else list_lines)(rules, naming)
    rows = len(table.inputs_NF)
    record = {"kind": task.config.name, "rows": rows, "lines": lines}
    write_json(folder / RULES, {**record, "rules": described(rules, naming)})
    found = answers_of(module.to(shop.runtime.device), shop.feed(data.validation), experiment.task)
    return module.cpu(), {
        "seconds": round(meter.seconds, 3),
        "best_epoch": None,
        "selected_epoch": None,
        "epochs": 1,
        "steps": 0,
        "rollout": None,
        "energy_wh": meter.energy_wh,
        "co2_g": meter.co2_g,
        "validation": score(found, experiment.task)[experiment.task.primary],
        "rules": {**record, "count": len(rules)},
    }


def gathered(shop: Workshop, task: Fitting) -> FitRows:
    """The rows that a seed draws, with their targets; of views of them, with augmentation.

    Rows without a label that no term asks the teacher about are left out.
    """
    data, kind = shop.experiment.data, shop.experiment.task.kind
    feed = task.learning.feed(
        task.samples, data, seed=task.seed, device=shop.runtime.device, raw=True, views=task.views
    )
    parts, drawn = parts_of(task.objective), _drawn(data, task)
    epochs = 1 if task.learning.augment is None else task.learning.settings.epochs
    found = [
        _asked(batch, task.teacher, parts, drawn=drawn, outputs=data.num_outputs, kind=kind)
        for epoch in range(epochs)
        for batch in feed.epoch(epoch)
    ]
    return FitRows(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _drawn(data: DataSet, task: Fitting) -> Tensor:
    """The identities that take part: a share of the training rows, and one of the others.

    Scratch and distilled of a seed draw the same training rows.
    """
    ids, share = task.samples.ids, fitter_of(task.config).rows
    trained = torch.isin(ids, data.train.ids)
    kept = []
    for part in (ids[trained].sort().values, ids[~trained].sort().values):
        if len(part):
            kept.append(part[torch.from_numpy(drawn_rows(len(part), share=share, seed=task.seed))])
    return torch.cat(kept)


def _asked(
    batch: Batch,
    teacher: Teacher | None,
    parts: Sequence[Part],
    *,
    drawn: Tensor,
    outputs: int,
    kind: str,
) -> FitRows:
    """The rows of a batch that take part and have a target."""
    assert batch.raw is not None, "the feed keeps raw inputs"
    said = None if teacher is None else teacher.signals(batch).logits
    if not isinstance(said, Logits | LazyLogits | None):
        raise HandshakeError(
            "A student that is fitted needs the teacher's probabilities of all classes, and this "
            "teacher gives the best ones and a tail; store all classes, or leave the store out."
        )
    taught_NK = None if said is None else said.dense().detach().cpu().double()
    total_NK = torch.zeros(len(batch), outputs, dtype=torch.float64)
    weight_N1 = torch.zeros(len(batch), 1, dtype=torch.float64)
    for part in parts:
        share_N1, made_NK = _part(part, batch, taught_NK, outputs=outputs, kind=kind)
        total_NK += part.weight * share_N1 * made_NK
        weight_N1 += part.weight * share_N1
    assert batch.ids is not None, "samples have identities"
    kept_N = torch.isin(batch.ids.cpu(), drawn) & (weight_N1[:, 0] > 0)
    targets_NK = total_NK[kept_N] / weight_N1[kept_N]
    return FitRows(
        batch.raw.cpu().flatten(1)[kept_N].float().numpy(),
        targets_NK.numpy(),
        _labels(batch)[kept_N].numpy(),
    )


def _labels(batch: Batch) -> Tensor:
    """`[N]` classes, 0 where labels are no classes, `NO_LABEL` where there is none."""
    missing_N = torch.full((len(batch),), NO_LABEL)
    if batch.labels is None:
        return missing_N
    labels_N = batch.labels.cpu() if batch.labels.ndim == 1 else torch.zeros_like(missing_N)
    if batch.labelled is None:
        return labels_N
    return torch.where(batch.labelled.cpu(), labels_N, missing_N)


def _part(
    part: Part, batch: Batch, taught_NK: Tensor | None, *, outputs: int, kind: str
) -> tuple[Tensor, Tensor]:
    """`[N, 1]` whether a row has this part, and `[N, K]` what it is."""
    every_N1 = torch.ones(len(batch), 1, dtype=torch.float64)
    if part.of_teacher:
        assert taught_NK is not None, "the handshake found a teacher for this term"
        return every_N1, _softened(taught_NK, part.temperature, kind)
    labels = batch.labels
    assert labels is not None, "the handshake found labels for this term"
    given_NK = labels.cpu()
    if given_NK.ndim == 1:
        given_NK = torch.nn.functional.one_hot(given_NK, outputs)
    if batch.labelled is not None:
        every_N1 = batch.labelled.cpu().double()[:, None]
    return every_N1, given_NK.double()


def _softened(taught_NK: Tensor, temperature: float, kind: str) -> Tensor:
    match kind:
        case "regression":
            return taught_NK
        case "multi_label":
            return (taught_NK / temperature).sigmoid()
        case _:
            return (taught_NK / temperature).softmax(dim=-1)


def _features(data: DataSet) -> tuple[str, ...] | None:
    """Names of the flattened inputs, where they are one column each."""
    names = data.features
    width = int(np.prod(data.input_shape))
    return names if names is not None and len(names) == width else None
