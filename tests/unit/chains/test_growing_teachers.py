"""Averages that teach, students that teach each other: formulas, and kills that change nothing."""

import copy
import math
import multiprocessing
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from potstill.errors import RecipeError
from potstill.losses import KD, CrossEntropy
from potstill.runtime.fabric import Runtime
from potstill.signals import Batch
from potstill.train import (
    Distiller,
    MeanTeacher,
    OptimizerName,
    Peers,
    ScheduleName,
    TrainSettings,
)

from .growing_runs import train, train_in

_SPAWN = multiprocessing.get_context("forkserver")
_SPAWN.set_forkserver_preload([train_in.__module__, "potstill.train", "potstill.tasks"])
SGD = TrainSettings(
    optimizer=OptimizerName.SGD, lr=0.1, momentum=0.0, batch_size=10, schedule=ScheduleName.CONSTANT
)


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10, 4, generator=generator), torch.arange(10) % 3


def _linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(4, 3)


def _distiller(student: nn.Module, teacher) -> Distiller:
    return Distiller(
        student, teacher, objective=KD(temperature=1) + CrossEntropy(), settings=SGD,
        runtime=Runtime(device="cpu"),
    )  # fmt: skip


def _plain_step(model: nn.Module, x, y, taught: list[torch.Tensor], weight: float = 1.0) -> None:
    """Gradient descent on the cross-entropy and the mean divergence from what others say."""
    q = model(x)
    loss = F.cross_entropy(q, y)
    for p in taught:
        kl = (p * (p.log() - q.log_softmax(-1))).sum(-1).mean()
        loss = loss + weight * kl / len(taught)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient


def test_three_students_take_turns_as_the_paper_says(data) -> None:
    x, y = data
    models = [_linear(seed) for seed in range(3)]
    plain = copy.deepcopy(models)
    peers = Peers({"a": lambda: models[1], "b": lambda: models[2]}, key="x")
    distiller = _distiller(models[0], peers)

    for _ in range(4):
        distiller.step(Batch(x, y))
        for mine in plain:
            others = [m(x).softmax(-1).detach() for m in plain if m is not mine]
            _plain_step(mine, x, y, others)

    for model, expected in zip(models, plain, strict=True):
        torch.testing.assert_close(model.weight, expected.weight)
        assert all(p.requires_grad for p in model.parameters())


def test_the_average_teaches_with_a_ramp(data) -> None:
    x, y = data
    model = _linear(0)
    plain, average = copy.deepcopy(model), copy.deepcopy(model)
    teacher = MeanTeacher(decay=0.6, ramp=0.5)
    distiller = _distiller(model, teacher)
    distiller.prepare(Batch(x, y))
    distiller.plan_steps(8)

    for step in range(6):
        distiller.step(Batch(x, y))
        share = math.exp(-5 * (1 - step / 4) ** 2) if step < 4 else 1.0
        _plain_step(plain, x, y, [average(x).softmax(-1).detach()], weight=share)
        keep = min(0.6, 1 - 1 / (step + 1))
        with torch.no_grad():
            for mine, new in zip(average.parameters(), plain.parameters(), strict=True):
                mine.copy_(keep * mine + (1 - keep) * new)

    torch.testing.assert_close(model.weight, plain.weight)
    torch.testing.assert_close(teacher.modules["teacher"].weight, average.weight)


def test_options_out_of_range_are_refused() -> None:
    for options in ({"decay": 1.0}, {"decay": 0.0}, {"ramp": 1.5}):
        with pytest.raises(RecipeError, match="must be"):
            MeanTeacher(**options)
    with pytest.raises(RecipeError, match="one peer"):
        Peers({}, key="")


@pytest.mark.parametrize("kind", ["average", "peers"])
def test_a_training_that_was_killed_ends_with_the_same_weights(kind, tmp_path) -> None:
    fit, grown = train(kind, None)
    checkpoint = tmp_path / "checkpoints" / "distilled-4.pt"

    for kill in (1, 2):
        stamp = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = _SPAWN.Process(target=train_in, args=(kind, tmp_path, 0.3))
        process.start()
        while process.is_alive() and (
            not checkpoint.exists() or checkpoint.stat().st_mtime_ns == stamp
        ):
            time.sleep(0.005)
        assert process.is_alive(), f"it must not be over before kill {kill}"
        process.kill()
        process.join()
    steps = torch.load(checkpoint, weights_only=True)["steps"]
    again, regrown = train(kind, tmp_path)

    assert 0 < steps < fit.steps
    for name, value in fit.last.items():
        assert torch.equal(again.last[name], value), name
    for role, weights in grown.items():
        for name, value in weights.items():
            assert torch.equal(regrown[role][name], value), f"{role} {name}"
