"""`results.json`: one record of everything that was measured."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from potstill.measure.verdict import Trade, judge, ratio
from potstill.pipeline.climbing import chain_of
from potstill.pipeline.finding import findings
from potstill.pipeline.other_results import other_models
from potstill.pipeline.packing import FOLDER, SHIPPED, shipped_figures, shipped_table
from potstill.pipeline.teaching import Ready
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Task

Tree = Mapping[str, object]


def gather(
    shop: Workshop, ready: Ready, measured: Tree, exported: Tree, command: str
) -> dict[str, object]:
    """The content of `results.json`."""
    experiment, data = shop.experiment, shop.experiment.data
    models = {role: _model(shop, ready, role, measured, exported) for role in
              ("teacher", "scratch", "distilled")}  # fmt: skip
    models |= other_models(shop, measured)
    models[SHIPPED] |= shipped_figures(shop.folder / FOLDER, SHIPPED)
    return {
        "name": experiment.name,
        "description": experiment.description,
        "task": _task_name(experiment.task),
        "primary": _judged_by(experiment.task)[0],
        "selected_by": experiment.task.primary,
        "selected_higher_is_better": experiment.task.higher_is_better,
        "higher_is_better": _judged_by(experiment.task)[1],
        "seeds": list(experiment.seeds),
        "models": models,
        "chain": chain_of(experiment),
        "exits": measured.get("exits"),
        "verdict": _verdict(shop, models, measured),
        "objective": repr(experiment.objective),
        "pairing": list(shop.pairing),
        "store": shop.store,
        "data": {
            "kind": str(data.kind),
            "name": data.name,
            "train": len(data.train),
            "transfer": 0 if data.transfer is None else len(data.transfer),
            "validation": len(data.validation),
            "test": len(data.test),
            "classes": None if data.classes is None else list(data.classes),
            "features": None if data.features is None else list(data.features),
            "target_kind": str(data.target_kind),
            "sampling_rate": data.sampling_rate,
        },
        "groups": measured.get("groups") or None,
        "teacher_calibration": measured.get("teacher_calibration") or None,
        "correction": measured.get("correction") or None,
        "findings": findings(experiment, measured) + shipped_table(shop.folder / FOLDER, SHIPPED),
        "speed": shop.hastening.summary(),
        "warnings": shop.warnings,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _judged_by(task: Task) -> tuple[str, bool]:
    """The metric of the verdict, and whether more of it is better."""
    if task.judged_by:
        return task.judged_by, task.judged_higher_is_better
    return task.primary, task.higher_is_better


def _task_name(task: Task) -> str:
    return task.name or ("classification" if task.kind == "single_label" else task.kind)


def _model(
    shop: Workshop, ready: Ready, role: str, measured: Tree, exported: Tree
) -> dict[str, object]:
    student = shop.experiment.student
    files = cast("Mapping[str, str]", exported["files"])
    sizes = cast("Mapping[str, Mapping[str, object]]", exported["size"])
    common = {
        "name": ready.name if role == "teacher" else student.name,
        "description": ready.description if role == "teacher" else student.description,
        "test": _part(measured, "test", role),
        "test_last": _part(measured, "test_last", role),
        "test_best": _part(measured, "test_best", role),
        "calibration": _part(measured, "calibration", role),
        "per_class": _part(measured, "per_class", role),
        **sizes[role],
        "latency_ms": _part(exported, "latency", role),
        "streaming": _part(exported, "streaming", role),
        "file": files.get(role),
        "file_bytes": _part(exported, "file_bytes", role),
    }
    if role == "teacher":
        training: dict[str, object] = {
            "train_seconds": ready.seconds,
            "energy_wh": ready.energy_wh,
            "co2_g": ready.co2_g,
            "best_epochs": None if ready.best_epoch is None else [ready.best_epoch],
            "selected_epochs": None if ready.selected_epoch is None else [ready.selected_epoch],
        }
    else:
        training = _training(shop, role)
        training["rollout_seconds"] = _rollout_seconds(shop, role)
        training["agreement"] = _part(measured, "agreement", role)
        training["agreement_gain"] = _part(measured, "agreement_gain", role)
        training["shipped_seed"] = seed = _part(exported, "shipped_seed", role)
        training["rules"] = shop.ledger.outcome(f"{role}/{seed}").get("rules")
    return {**common, **training}


def _training(shop: Workshop, role: str) -> dict[str, object]:
    outcomes = [shop.ledger.outcome(f"{role}/{seed}") for seed in shop.experiment.seeds]
    return {
        "train_seconds": _mean(outcomes, "seconds"),
        "energy_wh": _mean(outcomes, "energy_wh"),
        "co2_g": _mean(outcomes, "co2_g"),
        "best_epochs": [o["best_epoch"] for o in outcomes],
        "selected_epochs": [o["selected_epoch"] for o in outcomes],
    }


def _rollout_seconds(shop: Workshop, role: str) -> float | None:
    """Of `train_seconds`, what the students' own writing took; `None` where they wrote nothing."""
    outcomes = [shop.ledger.outcome(f"{role}/{seed}") for seed in shop.experiment.seeds]
    spent = [o.get("rollout") for o in outcomes]
    return (
        _mean([dict(s) for s in spent if isinstance(s, Mapping)], "seconds") if any(spent) else None
    )


def _mean(outcomes: list[dict[str, object]], name: str) -> float | None:
    values = [o[name] for o in outcomes]
    numbers = [float(v) for v in values if isinstance(v, int | float)]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) else None


def _part(tree: Tree, name: str, role: str) -> object:
    part = tree.get(name)
    return part.get(role) if isinstance(part, Mapping) else None


def _verdict(shop: Workshop, models: Mapping[str, Tree], measured: Tree) -> dict[str, object]:
    primary, higher_is_better = _judged_by(shop.experiment.task)

    def values(role: str) -> list[float]:
        test = cast("Mapping[str, Mapping[str, list[float]]]", models[role]["test"])
        return test[primary]["values"]

    agreed = cast("Mapping[str, float]", _part(measured, "agreement", "distilled"))
    trade = Trade(
        agreement=agreed["mean"],
        speedup=ratio(_p50(models["teacher"]), _p50(models["distilled"])),
        compression=ratio(_bytes(models["teacher"]), _bytes(models["distilled"])),
    )
    verdict = judge(
        values("distilled"),
        values("scratch"),
        values("teacher"),
        metric=primary,
        higher_is_better=higher_is_better,
        trade=trade,
    )
    return dict(verdict)


def _p50(model: Tree) -> float | None:
    latency = model.get("latency_ms")
    return float(latency["p50"]) if isinstance(latency, Mapping) else None


def _bytes(model: Tree) -> float | None:
    size = model.get("bytes")
    return float(size) if isinstance(size, int | float) else None
