"""`speed: exact` ends with the weights of the loop in `examples/plain_pytorch.py`, bit for bit."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from potstill import KD, CrossEntropy, Distiller, ModuleTeacher, TensorBatches, TrainSettings
from potstill.runtime.fabric import Runtime
from potstill.tasks import Classification
from potstill.train import OptimizerName

EXAMPLES = Path(__file__).parents[2] / "examples"

_spec = importlib.util.spec_from_file_location("plain_pytorch", EXAMPLES / "plain_pytorch.py")
assert _spec is not None
assert _spec.loader is not None
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)


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
def test_both_examples_end_with_the_same_accuracy() -> None:
    printed = [
        subprocess.run(
            [sys.executable, EXAMPLES / name], capture_output=True, text=True, check=True
        ).stdout
        for name in ("plain_pytorch.py", "with_potstill.py")
    ]

    assert "teacher: 9" in printed[0]
    assert printed[0].splitlines()[-1] == printed[1].splitlines()[-1]
