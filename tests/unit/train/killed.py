"""A training with everything that has a state, to be run in a process that is killed."""

import time
from pathlib import Path

import torch
from torch import nn

from potstill.data import Feed, Mixup, Normalise, Samples
from potstill.losses import KD, CrossEntropy, Hint
from potstill.runtime.fabric import Runtime
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, OptimizerName, TrainSettings


class Pace:
    """A `Progress` that makes steps last long enough to be killed in."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def begin(self, title, total_steps, done_steps) -> None:
        """Nothing."""

    def advance(self, steps_done) -> None:
        time.sleep(self._seconds)

    def note(self, text) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def feed(*, shuffle: bool, mix=None) -> Feed:
    generator = torch.Generator().manual_seed(5)
    samples = Samples(
        torch.randn(150, 8, generator=generator),
        torch.arange(150),
        torch.randint(0, 3, (150,), generator=generator),
    )
    return Feed(
        samples=samples,
        batch_size=16,
        seed=2,
        normalise=Normalise(),
        mix=mix,
        num_classes=3,
        shuffle=shuffle,
    )


def train(folder: Path | None, *, pause: float = 0.0, checkpoint_seconds: float = 0.02):
    torch.manual_seed(3)
    body = [nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 3)]
    student = nn.Sequential(*body)
    teacher = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 3))
    distiller = Distiller(
        student,
        ModuleTeacher(teacher, Classification()),
        objective=0.9 * KD(temperature=4) + 0.1 * CrossEntropy() + 0.5 * Hint("0", "0"),
        settings=TrainSettings(
            epochs=8,
            batch_size=16,
            accumulate=2,
            optimizer=OptimizerName.SGD,
            lr=0.05,
            warmup=0.1,
            clip_norm=1.0,
            ema=0.9,
            checkpoint_seconds=checkpoint_seconds,
        ),
        runtime=Runtime(device="cpu"),
    )
    return distiller.fit(
        feed(shuffle=True, mix=Mixup(alpha=0.4)),
        feed(shuffle=False),
        seed=4,
        folder=folder,
        progress=Pace(pause),
    )


def train_in(folder: Path, pause: float) -> None:
    fit = train(folder, pause=pause)
    torch.save({"student": fit.student.state_dict(), "last": fit.last}, folder / "weights.pt")
