"""Training for int8, with a teacher or without: one call around `Distiller`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from potstill.compress.fake_quantised import FakeQuantised, Int8
from potstill.losses import Objective
from potstill.protocols import Task, Teacher, Term
from potstill.runtime.fabric import Runtime
from potstill.train import Batches, Distiller, Fit, TrainSettings

if TYPE_CHECKING:
    from potstill.runtime.progress import Progress

CALIBRATION_BATCHES = 8


@dataclass(frozen=True)
class QuantisedFit:
    """What training for int8 gave.

    Args:
        student: with the selected weights and ranges; `student.converted()` is for export,
            `save_quantised` writes it.
        fit: as of any training.
    """

    student: FakeQuantised
    fit: Fit


def train_quantised(
    model: nn.Module,
    teacher: Teacher | None = None,
    *,
    train: Batches,
    validation: Batches | None = None,
    objective: Objective | Term | None = None,
    task: Task | None = None,
    settings: TrainSettings | None = None,
    how: Int8 | None = None,
    runtime: Runtime | None = None,
    seed: int = 0,
    role: str = "int8",
    folder: Path | None = None,
    progress: "Progress | None" = None,
) -> QuantisedFit:
    """Go on training a trained model so that it answers well in int8.

    Equivalent to `Distiller(FakeQuantised(model, ...), teacher, ...).fit(train, validation)`,
    with ranges that begin as those of the first batches. The teacher may be any: the student's
    teacher, a store of its answers, or `ModuleTeacher(model, task)`, the model before it was
    quantised, which is not changed. Without one it is plain quantisation-aware training on
    labels. With a `folder` it goes on after a kill as every training does.

    Args:
        model: trained; takes one tensor; not changed. Or a `FakeQuantised` student, with its
            ranges, which is trained in place.
        teacher: what it learns from besides the data.
        train: what to learn on.
        validation: what to select on.
        objective: terms on answers (a quantised student shows no layers); the task's loss if
            left out.
        task: how models are called; classification if left out.
        settings: a tenth of the usual epochs and rate are a good start.
        how: see `Int8`; of no use to a student that is prepared already.
        runtime: device, precision, processes.
        seed: of what draws from torch's random state.
        role: the name under which figures are logged.
        folder: where the checkpoint and the log lie.
        progress: told of every step.

    Raises:
        MissingExtra: torchao or ExecuTorch is not installed.
        ModelError: the model cannot be captured or has nothing to quantise.
        HandshakeError: terms, teacher, student and data do not match.
    """
    student = model if isinstance(model, FakeQuantised) else calibrated(model, train, how=how)
    distiller = Distiller(
        student, teacher, objective=objective, task=task, settings=settings, runtime=runtime
    )
    fit = distiller.fit(train, validation, seed=seed, role=role, folder=folder, progress=progress)
    return QuantisedFit(student=student, fit=fit)


def calibrated(
    model: nn.Module, train: Batches, *, how: Int8 | None = None, count: int = CALIBRATION_BATCHES
) -> FakeQuantised:
    """A model quantised after training: ranges from some batches, weights as they are.

    Args:
        model: trained; takes one tensor; not changed.
        train: real samples; labels are not looked at.
        how: see `Int8`.
        count: batches looked at.
    """
    batches = inputs_of(train, count=count)
    student = FakeQuantised(model, batches[0], how=how)
    student.calibrate(batches)
    return student.eval()


def inputs_of(batches: Batches, *, count: int) -> list[Tensor]:
    """The inputs of the first batches of epoch 0, on the CPU."""
    number = min(count, batches.num_batches)
    return [batches.batch(0, index).inputs.cpu() for index in range(number)]
