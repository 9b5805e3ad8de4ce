"""What must hold for every training: DESIGN's invariants, each with a test that can fail."""

import copy
import math
import sys

import pytest
import torch
from torch import nn

from potstill.errors import NonFiniteLoss, RecipeError
from potstill.losses import KD, CrossEntropy, Hint
from potstill.protocols import Teacher
from potstill.runtime.fabric import Runtime
from potstill.signals import Batch
from potstill.tasks import Classification
from potstill.teachers import Ensemble, ModuleTeacher, Relabelled
from potstill.testing import TinyClasses, tiny_mlp
from potstill.train import Distiller, OptimizerName, ScheduleName, Select, TrainSettings
from potstill.train.settings import rate_at

OBJECTIVE = 0.9 * KD(temperature=4) + 0.1 * CrossEntropy()


def _batch(rows: int = 12, **changes) -> Batch:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(rows, 6, generator=generator)
    labels = torch.randint(0, 3, (rows,), generator=generator)
    return Batch(**{"inputs": inputs, "labels": labels, **changes})


def _teacher(seed: int = 9, **options) -> ModuleTeacher:
    return ModuleTeacher(tiny_mlp(6, 24, 3, seed=seed, **options), Classification())


def _distiller(student=None, teacher=None, *, objective=OBJECTIVE, **settings) -> Distiller:
    return Distiller(
        student or tiny_mlp(6, 8, 3, seed=1),
        teacher or _teacher(),
        objective=objective,
        settings=TrainSettings(**{"batch_size": 12, **settings}),
        runtime=Runtime(device="cpu"),
    )


def _gradients(distiller: Distiller, batch: Batch) -> list[torch.Tensor]:
    distiller.step(batch)
    return [p.grad.clone() for p in distiller.student.parameters()]


# The teacher


def test_the_teacher_stays_frozen_and_in_eval_mode() -> None:
    model = tiny_mlp(6, 24, 3, seed=9, dropout=0.5, norm=True)
    teacher = ModuleTeacher(model, Classification())
    before = copy.deepcopy(model.state_dict())
    distiller = _distiller(teacher=teacher)

    first = teacher.signals(_batch()).logits.dense()
    model.train()  # somebody forgot
    next(m for m in model.modules() if isinstance(m, nn.Dropout)).train()
    distiller.step(_batch())
    next(m for m in model.modules() if isinstance(m, nn.Dropout)).train()  # and only a part of it
    again = teacher.signals(_batch()).logits.dense()

    assert not any(m.training for m in model.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(first, again)


def test_the_teacher_is_absent_from_optimiser_and_checkpoint(tmp_path) -> None:
    teacher = _teacher()
    distiller = _distiller(teacher=teacher, epochs=2, checkpoint_seconds=0.0)
    distiller.fit(TinyClasses(), folder=tmp_path)

    owned = {id(p) for g in distiller.optimizer.param_groups for p in g["params"]}
    state = torch.load(tmp_path / "checkpoints" / "distilled-0.pt", weights_only=True)

    assert owned == {id(p) for p in distiller.student.parameters()}
    assert not owned & {id(p) for p in teacher.model.parameters()}
    shapes = [v.shape for v in state["lesson"].values()]
    assert torch.Size([24, 6]) not in shapes
    assert len(shapes) == 4
    assert not any(isinstance(m, Teacher) for m in distiller.module.modules())


# The gradient does not depend on how a batch is cut


@pytest.mark.parametrize("accumulate", [2, 3, 5, 12])
def test_micro_batches_do_not_change_the_gradient(accumulate) -> None:
    labelled = torch.tensor([True, False, False, True, True, True, False] + [True] * 4 + [False])
    batch = _batch(labelled=labelled)

    whole = _gradients(_distiller(), batch)
    cut = _gradients(_distiller(accumulate=accumulate), batch)

    for one, other in zip(whole, cut, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)
        assert one.abs().max() > 0


def test_a_batch_of_fewer_rows_than_pieces_is_learnt_from() -> None:
    batch = _batch(rows=2)

    whole = _gradients(_distiller(tiny_mlp(6, 8, 3, seed=1)), batch)
    cut = _gradients(_distiller(tiny_mlp(6, 8, 3, seed=1), accumulate=5), batch)

    for one, other in zip(whole, cut, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)


def test_unlabelled_rows_add_nothing_to_terms_on_labels() -> None:
    labelled = torch.tensor([True] * 7 + [False] * 5)
    batch = _batch(labelled=labelled)
    hidden = _batch(labelled=labelled, labels=torch.where(labelled, batch.labels, -1))

    only = _gradients(_distiller(objective=CrossEntropy()), batch.rows(slice(0, 7)))
    masked = _gradients(_distiller(objective=CrossEntropy()), hidden)

    for one, other in zip(only, masked, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)


def test_terms_of_a_step_add_up_to_its_loss_and_carry_no_gradient() -> None:
    for accumulate in (1, 3):
        figures = _distiller(accumulate=accumulate).step(_batch())

        assert set(figures) == {"loss", "kd", "cross_entropy"}
        assert torch.allclose(figures["loss"], figures["kd"] + figures["cross_entropy"])
        assert not any(v.requires_grad for v in figures.values())


# No host synchronisation in a step

_ASKING = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__")


@pytest.mark.parametrize(
    "teacher",
    [
        _teacher,
        lambda: Ensemble([_teacher(), _teacher(seed=5)], weights=[1, 2], confidence=True),
        lambda: Relabelled(_teacher(), [2, 1, 0]),
    ],
)
@pytest.mark.parametrize(
    "settings", [{}, {"accumulate": 3}, {"clip_norm": 1.0}, {"ema": 0.9}, {"max_norm": 1.0}]
)
def test_a_step_never_waits_for_the_device(monkeypatch, settings, teacher) -> None:
    student = tiny_mlp(6, 8, 3, seed=1, norm=True, dropout=0.1)
    distiller = _distiller(student, teacher(), **settings)
    batch = _batch(labelled=torch.tensor([True] * 7 + [False] * 5))
    distiller.step(batch)
    asked = []

    def counting(name, original):
        def method(self, *arguments, **options):
            frame = sys._getframe(1)
            files = []
            while frame is not None:
                files.append(frame.f_code.co_filename)
                frame = frame.f_back
            # torch's optimisers keep their step counter on the host, where reading it is free
            if not any("/torch/optim/" in f for f in files):
                asked.append((name, files[0]))
            return original(self, *arguments, **options)

        return method

    for name in _ASKING:
        monkeypatch.setattr(torch.Tensor, name, counting(name, getattr(torch.Tensor, name)))
    distiller.step(batch)
    torch.ones(1).item()
    monkeypatch.undo()

    assert [name for name, _ in asked] == ["item"], asked  # the one above: the count works


# A loss that is not finite


def test_a_loss_that_is_not_finite_stops_and_keeps_batch_and_checkpoint(tmp_path) -> None:
    data = TinyClasses()
    distiller = _distiller(epochs=1)
    distiller.settings = TrainSettings(epochs=1, batch_size=16, checkpoint_seconds=0.0)
    distiller.fit(data, folder=tmp_path)
    checkpoint = tmp_path / "checkpoints" / "distilled-0.pt"
    before = checkpoint.read_bytes()
    checkpoint.unlink()
    bad = TinyClasses(poisoned=(0, 2))
    again = _distiller(epochs=3, batch_size=16, checkpoint_seconds=1e9)

    with pytest.raises(NonFiniteLoss, match=r"at step 3 of 12 \(epoch 1, batch 3;.*clip_norm"):
        again.fit(bad, folder=tmp_path)

    saved = torch.load(tmp_path / "bad-batch-distilled-0.pt", weights_only=True)
    assert torch.equal(saved["ids"], bad.batch(0, 2).ids)
    assert saved["inputs"].isnan().any()
    assert not checkpoint.exists()
    assert before


def test_a_checkpoint_is_not_overwritten_with_weights_that_are_not_finite(tmp_path) -> None:
    distiller = _distiller(epochs=2, batch_size=16, checkpoint_seconds=0.0)
    student = distiller.student
    checkpoint = tmp_path / "checkpoints" / "distilled-0.pt"
    kept = {}

    def explode(_gradient):
        if distiller.steps_done == 2:
            kept["bytes"] = checkpoint.read_bytes()
            return torch.full_like(_gradient, math.inf)
        return _gradient

    student[0].weight.register_hook(explode)
    with pytest.raises(NonFiniteLoss, match="loss or its gradient became inf or NaN at step 3"):
        distiller.fit(TinyClasses(), folder=tmp_path)

    assert checkpoint.read_bytes() == kept["bytes"]


# Options


def test_weights_are_bounded_after_every_step() -> None:
    distiller = _distiller(max_norm=0.3, lr=0.5, optimizer=OptimizerName.SGD)

    for _ in range(5):
        distiller.step(_batch())
        for layer in (distiller.student[0], distiller.student[-1]):
            assert layer.weight.norm(dim=1).max() <= 0.3 + 1e-5


def test_the_moving_average_follows_its_formula_and_is_the_result() -> None:
    student = tiny_mlp(6, 8, 3, seed=1, norm=True)
    distiller = _distiller(student, ema=0.8)
    expected = None

    for _ in range(4):
        distiller.step(_batch())
        new = {k: v.clone() for k, v in student.state_dict().items()}
        if expected is None:
            expected = new
        for name, value in expected.items():
            if value.is_floating_point():
                expected[name] = 0.8 * value + 0.2 * new[name]
            else:
                expected[name] = new[name]

    for name, value in distiller.result.state_dict().items():
        assert torch.allclose(value.float(), expected[name].float(), atol=1e-6), name
    assert distiller.result is not student


def test_clipping_bounds_the_gradient() -> None:
    distiller = _distiller(clip_norm=0.01)

    gradients = _gradients(distiller, _batch())

    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_patience_stops_and_of_equals_the_longest_trained_is_taken() -> None:
    data = TinyClasses(shuffle=False)
    settings = {"epochs": 50, "lr": 1e-9, "patience": 3, "batch_size": 16}
    fit = _distiller(**settings).fit(data, data)

    validated = [line for line in fit.record.lines if line["split"] == "validation"]
    assert fit.best_epoch == 4  # nothing got better than the first, and nothing worse
    assert fit.epochs == 4
    assert len(validated) == 4


@pytest.mark.parametrize("select", list(Select))
def test_selection_by_validation_or_by_position(select) -> None:
    data = TinyClasses(shuffle=False)
    fit = _distiller(epochs=6, lr=0.3, batch_size=16, select=select, schedule="constant").fit(
        data, data
    )
    values = [x["metrics"]["accuracy"] for x in fit.record.lines if x["split"] == "validation"]
    assert fit.best_epoch == max(i for i, v in enumerate(values, 1) if v == max(values))

    same = all(torch.equal(v, fit.last[k]) for k, v in fit.student.state_dict().items())
    assert same == (select is Select.LAST or fit.best_epoch == 6)


def test_validation_every_few_epochs_and_at_the_end() -> None:
    data = TinyClasses(shuffle=False)
    fit = _distiller(epochs=5, validate_every=2, batch_size=16).fit(data, data)

    epochs = [line["epoch"] for line in fit.record.lines if line["split"] == "validation"]

    assert epochs == [2, 4, 5]


def test_rates_of_each_schedule() -> None:
    cosine = rate_at(TrainSettings(lr=2.0, warmup=0.2), 10)
    step = rate_at(TrainSettings(lr=1.0, schedule=ScheduleName.STEP, milestones=(0.5, 0.8)), 10)
    constant = rate_at(TrainSettings(lr=0.5, schedule=ScheduleName.CONSTANT), 10)

    assert [cosine(i) for i in (0, 1, 2, 6, 10, 99)] == pytest.approx([1, 2, 2, 1, 0, 0], abs=1e-12)
    assert [step(i) for i in (0, 4, 5, 7, 8)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert {constant(i) for i in range(10)} == {0.5}


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"batch_size": 0}, {"accumulate": 0}, {"accumulate": 200}, {"lr": 0.0},
        {"lr": math.inf}, {"weight_decay": -1.0}, {"warmup": 1.0}, {"ema": 1.0}, {"max_norm": 0.0},
        {"clip_norm": 0.0}, {"patience": 0}, {"validate_every": 0},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(wrong) -> None:
    with pytest.raises(RecipeError, match=f"`{next(iter(wrong))}`.*must be"):
        TrainSettings(**wrong)


def test_a_frozen_student_is_refused() -> None:
    student = tiny_mlp(6, 8, 3).requires_grad_(False)

    with pytest.raises(RecipeError, match="no parameter that can be trained"):
        _distiller(student).step(_batch())


# Different architectures, and people with their own loop


def test_a_hint_joins_a_convolution_and_an_mlp_end_to_end(tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 1, 8, 8, generator=generator)
    batch = Batch(inputs, torch.arange(16) % 3)
    conv = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    teacher = ModuleTeacher(nn.Sequential(*conv, nn.Linear(5, 3)), Classification())
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 3))
    names = set(student.state_dict())
    distiller = Distiller(
        student,
        teacher,
        objective=KD(temperature=4) + 10 * Hint("1", "0"),
        settings=TrainSettings(lr=0.01),
        runtime=Runtime(device="cpu"),
    )

    agreement = distiller.prepare(batch)
    losses = [float(distiller.step(batch)["hint"]) for _ in range(60)]

    assert any("1 → 0" in line and "7" in line and "5" in line for line in agreement.pairing)
    assert losses[-1] < 0.8 * losses[0]
    assert set(student.state_dict()) == names, "projectors stay outside the student"
    assert not any(m._forward_hooks for m in [*student.modules(), *teacher.model.modules()])
    owned = {id(p) for g in distiller.optimizer.param_groups for p in g["params"]}
    assert len(owned) == len(list(student.parameters())) + 2, "but they are trained with it"


def test_ones_own_loop_learns_and_equals_fit() -> None:
    data = TinyClasses()
    settings = {"epochs": 2, "batch_size": 16, "schedule": "constant"}
    fitted = _distiller(**settings).fit(data).student

    own = _distiller(**settings)
    for epoch in range(2):
        for index in range(data.num_batches):
            own.step(data.batch(epoch, index))

    for name, value in fitted.state_dict().items():
        assert torch.equal(own.student.state_dict()[name], value)
    assert own.steps_done == 2 * data.num_batches
