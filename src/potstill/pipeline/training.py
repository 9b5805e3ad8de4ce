"""Stages that train: a teacher, the scratch students, the distilled students."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from torch import nn

from potstill.data.samples import DataSet, Samples
from potstill.losses import Objective
from potstill.measure.energy import metered
from potstill.models import save_model
from potstill.models.weights import fit_weights, read_weights, write_weights
from potstill.pipeline.examining import rollout_of
from potstill.pipeline.experiment import Learning, MadeModel
from potstill.pipeline.fitting import Fitting, fit
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.train import Distiller, Fit, GrowingTeacher, OnPolicy, Select
from potstill.train.pace import EXACT_PACE, Pace
from potstill.train.watch import Watch

SELECTED = "model.safetensors"
LAST, BEST = "last.safetensors", "best.safetensors"
CORRECTION = "correction.json"  # beside weights whose output biases were looked at afterwards


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """One training: who learns what, from whom, how."""

    role: str
    seed: int
    model: MadeModel
    learning: Learning
    samples: Samples
    objective: Objective
    teacher: Teacher | None = None
    pace: Callable[[], Pace] = lambda: EXACT_PACE
    on_policy: OnPolicy | None = None
    views: int | None = None  # how many are rotated through, for a stored teacher
    written_by: str = ""  # who wrote the texts to be learnt, if they are not the data's
    data: DataSet | None = None  # what is validated on, if not the experiment's
    classes: tuple[int, ...] | None = None  # whose samples these are, if not of all
    kept: Mapping[str, MadeModel] = field(default_factory=dict)  # of a teacher that grows, by role
    watch: Watch | None = None  # told of every validation; may end the training

    @property
    def stage(self) -> str:
        """The name in the ledger."""
        return f"{self.role}/{self.seed}"


def train(shop: Workshop, task: Assigned) -> dict[str, object]:
    """Run the training unless it is done; its outcome (seconds, best epoch, energy, …)."""
    folder = shop.models(task.role, task.seed)
    taught_by = "" if task.teacher is None else task.teacher.fingerprint()
    parts: tuple[object, ...] = (
        task.model.key,
        task.learning,
        task.objective,
        len(task.samples),
        taught_by,
    )
    if task.views is not None:
        parts = (*parts, task.views)
    if task.on_policy is not None:
        parts = (*parts, task.on_policy)
    if task.written_by:
        parts = (*parts, task.written_by)
    if task.classes is not None:
        parts = (*parts, f"classes {task.classes}")
    if task.kept:
        parts = (*parts, *(f"{role} {model.key}" for role, model in task.kept.items()))
    files = [folder / name for name in (SELECTED, LAST, BEST)]
    return shop.run(
        task.stage,
        depends_on=shop.key(task.role, task.seed, *parts),
        files=files + [shop.models(role, task.seed) / SELECTED for role in task.kept],
        work=lambda: (_fit if task.model.fitted else _train)(shop, task, folder),
    )


def _fit(shop: Workshop, task: Assigned, folder: Path) -> Mapping[str, object]:
    """A student that is fitted in one go: its last and its best weights are the same."""
    config = task.model.config
    assert config is not None, "students that are fitted are made by their config"
    module, outcome = fit(
        shop,
        Fitting(
            stage=task.stage,
            seed=task.seed,
            config=config,
            learning=task.learning,
            samples=task.samples,
            objective=task.objective,
            teacher=task.teacher,
            views=task.views,
        ),
        folder,
    )
    (folder / CORRECTION).unlink(missing_ok=True)
    save_model(module, config, folder)
    for name in (LAST, BEST):
        write_weights(module, folder / name)
    return outcome


def _train(shop: Workshop, task: Assigned, folder: Path) -> Mapping[str, object]:
    experiment = shop.experiment
    data = task.data or experiment.data
    distiller = Distiller(
        task.model.make(task.seed),
        task.teacher,
        objective=task.objective,
        task=experiment.task,
        settings=task.learning.settings,
        runtime=shop.runtime,
        pace=task.pace(),
        rollout=rollout_of(task.on_policy, experiment.data, seed=task.seed),
    )
    feed = task.learning.feed(
        task.samples,
        data,
        seed=task.seed,
        device=shop.runtime.device,
        raw=task.teacher is not None and task.teacher.reads_raw,
        views=task.views,
    )
    agreement = distiller.prepare(feed.batch(0, 0))
    for line in agreement.pairing:
        shop.progress.note(line)
    measuring = experiment.measuring
    with metered(task.stage, enabled=measuring.energy, country=measuring.country) as meter:
        fit = distiller.fit(
            feed,
            shop.feed(data.validation),
            seed=task.seed,
            role=task.role,
            folder=shop.folder,
            progress=shop.progress,
            watch=task.watch,
        )
    _save(fit, task.model, folder)
    if isinstance(task.teacher, GrowingTeacher):
        for role, module in task.teacher.modules.items():
            _write(module.cpu().eval(), task.kept[role], shop.models(role, task.seed))
    (shop.folder / "checkpoints" / f"{task.role}-{task.seed}.pt").unlink(missing_ok=True)
    return _outcome(fit, task, meter.energy_wh, meter.co2_g, experiment.task.primary)


def _outcome(
    fit: Fit, task: Assigned, energy_wh: float | None, co2_g: float | None, primary: str
) -> dict[str, object]:
    by_last = fit.best_epoch is None or task.learning.settings.select is Select.LAST
    validated = {
        line["epoch"]: cast("dict[str, float]", line["metrics"])[primary]
        for line in fit.record.lines
        if line["split"] == "validation"
    }
    return {
        "seconds": round(fit.seconds, 3),
        "best_epoch": fit.best_epoch,
        "selected_epoch": fit.epochs if by_last else fit.best_epoch,
        "epochs": fit.epochs,
        "steps": fit.steps,
        "rollout": None if fit.rollout is None else asdict(fit.rollout),
        "energy_wh": energy_wh,
        "co2_g": co2_g,
        "validation": validated[fit.epochs if by_last else fit.best_epoch],
    }


def _save(fit: Fit, model: MadeModel, folder: Path) -> None:
    (folder / CORRECTION).unlink(missing_ok=True)
    student = fit.student
    selected = {name: value.clone() for name, value in student.state_dict().items()}
    for name, weights in ((LAST, fit.last), (BEST, fit.best)):
        student.load_state_dict(weights)
        write_weights(student, folder / name)
    student.load_state_dict(selected)
    _write(student, model, folder)


def _write(module: nn.Module, model: MadeModel, folder: Path) -> None:
    if model.config is not None:
        save_model(module, model.config, folder)
    else:
        write_weights(module, folder / SELECTED)


def restored(
    model: MadeModel, folder: Path, *, num_outputs: int, file: str = SELECTED
) -> nn.Module:
    """The trained model of a stage, in eval mode, on the CPU."""
    module = model.make(0)
    path = folder / file
    fit_weights(module, read_weights(path), origin=str(path), num_outputs=num_outputs)
    return module.eval()
