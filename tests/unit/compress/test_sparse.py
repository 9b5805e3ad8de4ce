"""Masks: which weights go, when, that they stay, and what a file weighs."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from potstill import KD, Distiller, ModuleTeacher, TensorBatches, TrainSettings
from potstill.compress.sparse import (
    Pattern,
    Sparsity,
    densified,
    sparsified,
    zeroed,
    zeros,
    zipped_bytes,
)
from potstill.errors import ModelError, RecipeError
from potstill.models.weights import write_weights
from potstill.tasks import Classification

from .kills import assert_a_kill_changes_nothing

INPUTS = torch.randn(160, 8, generator=torch.Generator().manual_seed(0))
LABELS = INPUTS[:, :4].argmax(1)


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


def batches() -> TensorBatches:
    return TensorBatches(INPUTS, LABELS, batch_size=32)


def test_the_smallest_weights_go() -> None:
    model = net()
    before = [model[0].weight.detach().clone(), model[2].weight.detach().clone()]
    model = zeroed(sparsified(model, Sparsity(share=0.75)))
    for layer, weight in zip((model[0], model[2]), before, strict=True):
        values = sorted(weight.abs().flatten().tolist(), reverse=True)
        threshold = values[weight.numel() // 4 - 1]
        expected = torch.where(weight.abs() >= threshold, weight, 0.0)
        assert torch.equal(layer.weight, expected)
    assert zeros(model) == 0.75


def test_two_of_every_four_inputs_stay() -> None:
    model = net()
    weight = model[0].weight.detach().clone()
    model = zeroed(sparsified(model, Sparsity(pattern=Pattern.TWO_OF_FOUR)))
    for row, seen in zip(weight, model[0].weight, strict=True):
        for start in range(0, 8, 4):
            group = row[start : start + 4].tolist()
            largest = sorted(range(4), key=lambda i: abs(group[i]))[2:]
            expected = [v if i in largest else 0.0 for i, v in enumerate(group)]
            assert seen[start : start + 4].tolist() == expected


def test_the_schedule_is_that_of_the_paper() -> None:
    how = Sparsity(share=0.8, begin=0.1, end=0.6)
    assert how.at(0.0) == 0.0
    assert how.at(0.35) == pytest.approx(0.8 * (1 - 0.5**3))
    assert how.at(0.9) == 0.8
    assert Sparsity(pattern="2:4", begin=0.2).at(0.1) == 0.0
    assert Sparsity(pattern="2:4", begin=0.2).at(0.2) == 0.5


def test_masks_stay_while_the_teacher_helps() -> None:
    teacher = ModuleTeacher(net().eval(), Classification())
    student = sparsified(net(), Sparsity(share=0.8, end=0.5))
    seen: list[float] = []
    masks: list[torch.Tensor] = []

    distiller = Distiller(
        student,
        teacher,
        objective=KD(temperature=2),
        settings=TrainSettings(epochs=8, batch_size=32, lr=1e-2),
    )
    distiller.prepare(batches().batch(0, 0))
    distiller.plan_steps(40)
    for step in range(40):
        distiller.step(batches().batch(*divmod(step, 5)))
        seen.append(zeros(student))
        masks.append(student[0].weight.detach() == 0)
    assert seen == sorted(seen)
    assert 0.0 < seen[3] < seen[-1]
    assert seen[-1] == pytest.approx(0.8, abs=0.01)
    for earlier, later in pairwise(masks):
        assert bool((later | ~earlier).all()), "what is zero stays so"
    assert torch.equal(masks[21], masks[-1])
    answers = student.eval()(INPUTS)
    plain = densified(student)
    assert set(plain.state_dict()) == set(net().state_dict())
    assert torch.equal(plain(INPUTS), answers)
    assert zeros(plain) == seen[-1]


def test_a_killed_training_ends_with_the_same_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(folder: Path) -> nn.Module:
        student = sparsified(net(), Sparsity(share=0.7))
        settings = TrainSettings(epochs=6, batch_size=32, lr=1e-2, checkpoint_seconds=0.0)
        Distiller(student, settings=settings).fit(batches(), folder=folder)
        return student

    assert_a_kill_changes_nothing(trained, tmp_path, monkeypatch, at=9)


def test_zeros_save_something_once_zipped(tmp_path: Path) -> None:
    dense = nn.Sequential(nn.Linear(128, 128))
    sparse = densified(zeroed(sparsified(dense, Sparsity(share=0.9))))
    for name, model in (("dense", dense), ("sparse", sparse)):
        write_weights(model, tmp_path / f"{name}.safetensors")
    plain = [(tmp_path / f"{n}.safetensors") for n in ("dense", "sparse")]
    assert plain[0].stat().st_size == plain[1].stat().st_size
    assert zipped_bytes(plain[1]) < 0.3 * zipped_bytes(plain[0])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError, match="share"):
        Sparsity(share=1.0)
    with pytest.raises(RecipeError, match="`end`"):
        Sparsity(begin=0.6, end=0.5)
    with pytest.raises(ModelError, match="no layer whose weights"):
        sparsified(nn.Sequential(nn.Linear(3, 5)), Sparsity(pattern="2:4"))
    with pytest.raises(ModelError, match="no layer"):
        sparsified(net(), Sparsity(skip=("0", "2")))
