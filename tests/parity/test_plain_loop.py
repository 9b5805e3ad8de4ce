"""`speed: exact` ends with the weights of the loop in `examples/plain_pytorch.py`, bit for bit."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from potstill import KD, CrossEntropy, Distiller, ModuleTeacher, TensorBatches, TrainSettings
from potstill.runtime.fabric import Runtime
from potstill.tasks import Classification
from potstill.train import OptimizerName

EXAMPLES = Path(__file__).parents[2] / "examples"


def _example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = _example("plain_pytorch")


def _ours(student, teacher, x, y, *, seed, **options):
    distiller = Distiller(
        student,
        None if teacher is None else ModuleTeacher(teacher, Classification()),
        objective=None if teacher is None else 0.9 * KD(temperature=4) + 0.1 * CrossEntropy(),
        settings=TrainSettings(epochs=3, lr=plain.RATE, batch_size=plain.BATCH, **options),
        runtime=Runtime(device="cpu"),
    )
    return distiller.fit(TensorBatches(x, y, batch_size=plain.BATCH, seed=seed), seed=seed).student


@pytest.mark.parametrize(
    ("dropout", "by_hand", "ours"),
    [
        (0.0, {}, {}),  # AdamW
        (0.3, {}, {}),  # dropout draws from the same random stream
        (0.0, {"clip_norm": 0.1}, {"clip_norm": 0.1}),  # low enough to bite at every step
        (0.0, {"momentum": 0.9}, {"optimizer": OptimizerName.SGD, "momentum": 0.9}),
        (
            0.3,
            {"momentum": 0.9, "clip_norm": 0.1},
            {"optimizer": OptimizerName.SGD, "clip_norm": 0.1},
        ),
    ],
)
@pytest.mark.parametrize("seed", [0, 3])
def test_weights_equal_those_of_the_plain_loop(dropout, by_hand, ours, seed) -> None:
    x, y = (part[:450] for part in plain.digits())  # the last batch is short
    teacher = plain.mlp(64, 64, 10, seed=9)

    first = plain.mlp(64, 16, 10, dropout=dropout, seed=1)
    expected = plain.train(first, teacher, x, y, seed=seed, epochs=3, **by_hand)
    student = plain.mlp(64, 16, 10, dropout=dropout, seed=1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    found = _ours(student, teacher, x, y, seed=seed, **ours)

    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
        assert not torch.equal(before[name], value), "the training must have changed something"


def test_training_on_labels_alone_equals_the_plain_loop() -> None:
    x, y = (part[:450] for part in plain.digits())

    expected = plain.train(plain.mlp(64, 16, 10, seed=1), None, x, y, epochs=3)
    found = _ours(plain.mlp(64, 16, 10, seed=1), None, x, y, seed=0)

    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.slow
def test_both_examples_end_with_the_same_accuracy(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # one of them adds its folder
    printed = []
    for name in ("plain_pytorch", "with_potstill"):
        _example(name).main()
        printed.append(capsys.readouterr().out)

    assert "teacher: 9" in printed[0]
    assert printed[0].splitlines()[-1] == printed[1].splitlines()[-1]
