"""A training over several processes: `two_processes.py FILE DEVICES` leaves the weights in FILE."""

import sys
from pathlib import Path

import torch

from potstill.losses import KD, CrossEntropy
from potstill.runtime.fabric import Runtime
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.testing import tiny_mlp
from potstill.train import Distiller, OptimizerName, TensorBatches, TrainSettings


def main(path: Path, devices: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(61, 6, generator=generator)  # batches of 15: no part equals another
    batches = TensorBatches(inputs, torch.arange(61) % 3, batch_size=15)
    distiller = Distiller(
        tiny_mlp(6, 8, 3, seed=1),
        ModuleTeacher(tiny_mlp(6, 24, 3, seed=9), Classification()),
        objective=0.9 * KD(temperature=4) + 0.1 * CrossEntropy(),
        settings=TrainSettings(
            epochs=3, batch_size=15, accumulate=2, optimizer=OptimizerName.SGD, lr=0.1,
            clip_norm=0.5, checkpoint_seconds=0.0,
        ),
        runtime=Runtime(device="cpu", devices=devices),
    )  # fmt: skip
    fit = distiller.fit(batches, batches, folder=path.parent / f"run-{devices}")
    if distiller.runtime.rank == 0:
        assert distiller.runtime.world_size == devices
        torch.save(fit.student.state_dict(), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
