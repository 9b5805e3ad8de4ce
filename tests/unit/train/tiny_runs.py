"""Whole runs on a part of the digits, small enough for a test."""

from pathlib import Path

from sklearn.datasets import load_digits
from torch import nn

from potstill.data import from_arrays
from potstill.losses import KD, CrossEntropy
from potstill.pipeline import Experiment, GivenTeacher, Learning, MadeModel, Pipeline, Run
from potstill.pipeline.experiment import Measuring, TrainedTeacher
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.testing import tiny_mlp
from potstill.train import TrainSettings

from .killed import Pace


def _student(seed: int) -> nn.Module:
    return tiny_mlp(64, 12, 10, seed=seed, dropout=0.1)


def _teacher(seed: int) -> nn.Module:
    return tiny_mlp(64, 64, 10, seed=seed)


def _made(make, name: str) -> MadeModel:
    return MadeModel(make=make, name=name, description=name, key=name)


def run(
    folder: Path, *, random_teacher: int | None = None, epochs: int = 3, pause: float = 0.0
) -> Run:
    """A run of three seeds; the teacher is trained, or has the random weights of a seed."""
    inputs, labels = load_digits(return_X_y=True)
    settings = TrainSettings(epochs=epochs, lr=3e-3, checkpoint_seconds=0.02)
    teacher: TrainedTeacher | GivenTeacher
    if random_teacher is None:
        learning = Learning(settings=settings)
        teacher = TrainedTeacher(model=_made(_teacher, "big"), learning=learning)
    else:
        module = _teacher(random_teacher)
        source = ModuleTeacher(module, Classification())
        teacher = GivenTeacher(teacher=source, name="random", description="random", module=module)
    experiment = Experiment(
        name="tiny",
        task=Classification(),
        data=from_arrays(inputs[:900].astype("float32"), labels[:900]),
        teacher=teacher,
        student=_made(_student, "small"),
        objective=0.9 * KD(temperature=4) + 0.1 * CrossEntropy(),
        learning=Learning(settings=settings),
        export=(),
        measuring=Measuring(seconds=0.02, energy=False),
        device="cpu",
    )
    return Pipeline(experiment, folder, progress=Pace(pause)).run()


def run_slowly(folder: Path) -> None:
    run(folder, pause=0.01)
