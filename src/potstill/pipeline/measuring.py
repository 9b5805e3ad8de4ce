"""The one reading of the test data, and the figures made of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
import torch
from torch import nn

from potstill.measure.boxes import counts
from potstill.measure.classes import MOST_CLASSES, class_records
from potstill.measure.quality import (
    NLL,
    agreement,
    calibration_error,
    probabilities,
    token_calibration,
)
from potstill.measure.summary import summarise
from potstill.pipeline.calibrating import calibration_figures
from potstill.pipeline.climbing import TOGETHER, others_of, together
from potstill.pipeline.correcting import correction_figures
from potstill.pipeline.early import measure_exits
from potstill.pipeline.groups import group_figures
from potstill.pipeline.questioning import Oral
from potstill.pipeline.teaching import Ready
from potstill.pipeline.training import BEST, LAST, SELECTED, restored
from potstill.pipeline.workshop import Workshop
from potstill.runtime.files import write_with
from potstill.runtime.progress import showing
from potstill.train.evaluate import Answers, answers_of, score

PREDICTIONS, SAMPLES = "predictions.npz", "samples.npz"
ROLES = ("teacher", "scratch", "distilled")
_FILES = {"selected": SELECTED, "last": LAST, "best": BEST}
SHOWN = 96  # samples kept for the report


def measure_quality(
    shop: Workshop, ready: Ready, depends_on: list[str], corrected: Mapping[str, object]
) -> dict[str, object]:
    """Answers of every model on the test data, their metrics, calibration and agreement."""
    files = [shop.folder / PREDICTIONS, shop.folder / SAMPLES]
    return shop.run(
        "measure",
        depends_on=depends_on,
        files=files,
        work=lambda: _measure(shop, ready, corrected),
    )


def _measure(shop: Workshop, ready: Ready, corrected: Mapping[str, object]) -> Mapping[str, object]:
    oral = Oral(shop, ready)
    found = _all_answers(shop, ready, oral)
    selected = found["selected"]
    _keep(shop, selected)
    return {
        "test": _metrics(shop, selected, oral.figures()),
        "test_last": _metrics(shop, found["last"], oral.texts.scores("last")),
        "test_best": _metrics(shop, found["best"], oral.texts.scores("best")),
        "calibration": _calibration(shop, selected),
        "agreement": _agreement(shop, selected),
        "agreement_gain": _agreement_gain(shop, selected),
        "per_class": _per_class(shop, selected),
        "teacher_calibration": calibration_figures(shop, selected["teacher_0"], ready),
        "groups": group_figures(shop, selected),
        "correction": correction_figures(shop, selected, corrected),
        "exits": measure_exits(shop),
    }


def _all_answers(shop: Workshop, ready: Ready, oral: Oral) -> dict[str, dict[str, Answers]]:
    """What the selected, last and best weights of every model say about the test data."""
    e, device = shop.experiment, shop.runtime.device
    test, task = shop.feed(e.data.test), e.task
    found: dict[str, dict[str, Answers]] = {"selected": {}, "last": {}, "best": {}}
    others = others_of(e)
    trained = [("scratch", e.student, e.seeds), ("distilled", e.student, e.seeds)]
    trained += [(other.role, other.model, other.seeds) for other in others]
    each_once = [(role, model, seed) for role, model, seeds in trained for seed in seeds]
    teachers = {"selected": ready.teacher, **ready.other}
    total = len(teachers) + len(each_once)
    with showing(shop.progress, "every model on the test data", total) as advance:
        for number, (which, teacher) in enumerate(teachers.items(), 1):
            found[which]["teacher_0"] = answers_of(teacher.to(device), test, task)
            oral.teacher(which, teacher)
            advance(number)
        lasting = {other.role for other in others if not other.has_epochs}
        for number, (role, model, seed) in enumerate(each_once, len(teachers) + 1):
            folder, name = shop.models(role, seed), f"{role}_{seed}"
            known: dict[bytes, tuple[nn.Module, Answers]] = {}  # the selected is last or best
            for which in ("selected",) if role in lasting else tuple(found):
                weights = hashlib.sha256((folder / _FILES[which]).read_bytes()).digest()
                if weights not in known:
                    module = restored(
                        model, folder, num_outputs=shop.num_outputs, file=_FILES[which]
                    ).to(device)
                    known[weights] = module, answers_of(module, test, task)
                module, found[which][name] = known[weights]
                oral.student(which, name, module)
            advance(number)
    if e.chain is not None and e.chain.together:
        for seed in e.seeds:
            joint = together(shop, e.chain, seed).to(device)
            found["selected"][f"{TOGETHER}_{seed}"] = answers_of(joint, test, task)
    return found


def _roles(answers: Mapping[str, Answers]) -> list[str]:
    """The three of every run, then the others in the order in which they came."""
    return list(dict.fromkeys([*ROLES, *(name.rpartition("_")[0] for name in answers)]))


def _of(role: str, answers: Mapping[str, Answers]) -> list[Answers]:
    return [a for name, a in answers.items() if name.rpartition("_")[0] == role]


def _metrics(
    shop: Workshop,
    answers: Mapping[str, Answers],
    more: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> dict[str, object]:
    """The task's metrics, and further ones by model, of every role."""
    found: dict[str, object] = {}
    for role in _roles(answers):
        scores = [
            {**score(a, shop.experiment.task), **more.get(name, {})}
            for name, a in answers.items()
            if name.rpartition("_")[0] == role
        ]
        if scores:
            found[role] = {name: summarise([s[name] for s in scores]) for name in scores[0]}
    return found


def _calibration(shop: Workshop, answers: Mapping[str, Answers]) -> dict[str, object]:
    kind = shop.experiment.task.kind
    if kind in ("regression", "embedding", "boxes", "transcript"):
        return {}
    found: dict[str, object] = {}
    for role in _roles(answers):
        errors = [_calibration_error(a, kind) for a in _of(role, answers)]
        found[role] = {"ece": summarise(errors)}
    return found


def _calibration_error(answers: Answers, kind: str) -> float:
    outputs, labels = answers.outputs.numpy(), answers.labels.numpy()
    if kind == "tokens":
        return token_calibration(outputs, labels)["ece"]
    return calibration_error(probabilities(outputs, kind=kind), labels)["ece"]


def _agreement(shop: Workshop, answers: Mapping[str, Answers]) -> dict[str, object]:
    kind, (teacher, *_) = shop.experiment.task.kind, _of("teacher", answers)
    return {
        role: summarise(
            [
                agreement(a.outputs.numpy(), teacher.outputs.numpy(), kind=kind)
                for a in _of(role, answers)
            ]
        )
        for role in _roles(answers)
        if role != "teacher"
    }


def _agreement_gain(shop: Workshop, answers: Mapping[str, Answers]) -> object:
    """How much more often the distilled student agrees with the teacher than scratch, by seed."""
    found = cast("Mapping[str, Mapping[str, list[float]]]", _agreement(shop, answers))
    pairs = zip(found["distilled"]["values"], found["scratch"]["values"], strict=True)
    return {"distilled": summarise([mine - other for mine, other in pairs])}


def _per_class(shop: Workshop, answers: Mapping[str, Answers]) -> dict[str, object]:
    data, kind = shop.experiment.data, shop.experiment.task.kind
    if kind not in ("single_label", "multi_label") or data.num_outputs > MOST_CLASSES:
        return {}
    names = data.classes or tuple(str(number) for number in range(data.num_outputs))
    labels = answers["teacher_0"].labels.numpy()
    return {
        role: class_records(
            [a.outputs.numpy() for a in _of(role, answers)], labels, kind=kind, names=names
        )
        for role in ROLES
    }


def _keep(shop: Workshop, answers: Mapping[str, Answers]) -> None:
    first = answers["teacher_0"]
    arrays = {"ids": first.ids.numpy(), "labels": first.labels.numpy()}
    arrays |= {name: a.outputs.numpy() for name, a in answers.items()}
    _write(shop.folder / PREDICTIONS, arrays)
    rows = torch.from_numpy(_most_telling(shop, answers))
    test, tokens = shop.experiment.data.test, shop.experiment.data.tokens
    shown = {"ids": test.ids[rows].numpy(), "inputs": test.inputs[rows].numpy()}
    if tokens is not None and shop.experiment.data.normalise.tokens:
        shown["texts"] = np.array(tokens.texts(shown["inputs"]), dtype=np.str_)
    _write(shop.folder / SAMPLES, shown)


def _most_telling(shop: Workshop, answers: Mapping[str, Answers]) -> np.ndarray:
    """Test samples where the models differ most, at most `SHOWN`, by their place."""
    by_role = {
        role: np.stack([_decisive(shop, a) for a in _of(role, answers)]).mean(0) for role in ROLES
    }
    apart = np.abs(by_role["distilled"] - by_role["teacher"]).sum(-1)
    apart += 0.5 * np.abs(by_role["distilled"] - by_role["scratch"]).sum(-1)
    ids, samples = answers["teacher_0"].ids.numpy(), shop.experiment.data.test.ids.numpy()
    if len(ids) != len(samples):  # several rows a sample: their mean
        place = np.argsort(samples)[np.searchsorted(np.sort(samples), ids)]
        rows = np.maximum(np.bincount(place, minlength=len(samples)), 1)
        apart = np.bincount(place, weights=apart, minlength=len(samples)) / rows
    order = np.argsort(-apart, kind="stable")[:SHOWN]
    return np.sort(order)


def _decisive(shop: Workshop, answers: Answers) -> np.ndarray:
    kind = shop.experiment.task.kind
    outputs = answers.outputs.numpy()
    if kind == "regression":
        return outputs
    if kind == "embedding":
        return _similarities(outputs)
    if kind in ("tokens", "transcript"):
        return outputs[:, NLL : NLL + 1]
    if kind == "boxes":
        return counts(outputs, num_classes=shop.num_outputs)
    p = probabilities(outputs, kind=kind)
    if kind == "multi_label":
        return (p > 0.5).astype(np.float64)
    return np.asarray(np.eye(p.shape[1])[p.argmax(1)])


def _similarities(vectors_ND: np.ndarray) -> np.ndarray:
    """`[N, 64]` cosines with some of the rows: what widths and bases do not change."""
    unit_ND = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    some = np.linspace(0, len(unit_ND) - 1, min(64, len(unit_ND))).astype(int)
    return np.asarray(unit_ND @ unit_ND[some].T)


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **cast("dict[str, np.ndarray]", dict(arrays)))  # type: ignore[arg-type]

    write_with(path, save)
