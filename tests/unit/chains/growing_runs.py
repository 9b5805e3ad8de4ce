"""Trainings with a teacher that grows, to be run in a process that is killed."""

import time
from pathlib import Path

import torch
from torch import nn

from potstill.losses import KD, CrossEntropy
from potstill.runtime.fabric import Runtime
from potstill.train import (
    Distiller,
    Fit,
    GrowingTeacher,
    MeanTeacher,
    Peers,
    TensorBatches,
    TrainSettings,
)


def net(hidden: int) -> nn.Module:
    body = [nn.Linear(8, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.4)]
    return nn.Sequential(*body, nn.Linear(hidden, 3))


def teacher(kind: str) -> GrowingTeacher:
    if kind == "average":
        return MeanTeacher(decay=0.9, ramp=0.5)
    return Peers({"peer-1": lambda: net(9), "peer-2": lambda: net(6)}, key="two", seed=5)


class Slow:
    """A `Progress` whose steps last long enough to be killed in."""

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


def train(
    kind: str, folder: Path | None, *, pause: float = 0.0, seconds: float = 0.0
) -> tuple[Fit, dict[str, dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(60, 8, generator=generator)
    y = torch.randint(0, 3, (60,), generator=generator)
    torch.manual_seed(3)
    grown = teacher(kind)
    distiller = Distiller(
        net(12),
        grown,
        objective=KD(temperature=1) + CrossEntropy(),
        settings=TrainSettings(epochs=5, batch_size=16, lr=0.01, checkpoint_seconds=seconds),
        runtime=Runtime(device="cpu"),
    )
    fit = distiller.fit(
        TensorBatches(x, y, batch_size=16), seed=4, folder=folder, progress=Slow(pause)
    )
    return fit, {name: module.state_dict() for name, module in grown.modules.items()}


def train_in(kind: str, folder: Path, pause: float) -> None:
    train(kind, folder, pause=pause)
