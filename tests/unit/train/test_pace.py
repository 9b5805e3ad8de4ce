"""Paces: what each does to a step, and how one is chosen."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from potstill.losses import KD, CrossEntropy, Hint
from potstill.runtime.fabric import Runtime
from potstill.runtime.fast import EXACT, State, choosing
from potstill.signals import Batch
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, TrainSettings, pacing
from potstill.train.pace import EXACT_PACE, Pace
from potstill.train.pacing import Stint, choose_pace, pace_named

TASK = Classification()
OBJECTIVE = 0.9 * KD(temperature=4) + 0.1 * CrossEntropy()


def _net(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False),  # before batch norm its gradient is mere rounding
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(216, 4),
        )


def _batches(rows: int = 16) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(inputs=torch.randn(rows, 3, 8, 8, generator=generator), labels=torch.arange(rows) % 4)
        for _ in range(2)
    ]


def _stint(student=None, **changes) -> Stint:
    given = {
        "student": student or _net(),
        "teacher": ModuleTeacher(_net(5), TASK),
        "objective": OBJECTIVE,
        "task": TASK,
        "settings": TrainSettings(batch_size=16),
        "runtime": Runtime(device="cpu"),
        "batches": _batches(),
        "steps": 5000,
        **changes,
    }
    return Stint(**given)


def _trained(pace: Pace, *, steps: int = 4, student=None, **settings) -> nn.Module:
    distiller = Distiller(
        student or _net(dropout=0.2),
        ModuleTeacher(_net(5), TASK),
        objective=OBJECTIVE,
        settings=TrainSettings(batch_size=16, **settings),
        runtime=Runtime(device="cpu"),
        pace=pace,
    )
    torch.manual_seed(3)
    for number in range(steps):
        distiller.step(_batches(16 if number % 2 else 7)[0])
    return distiller.student


def test_names_and_paces_are_one_to_one() -> None:
    paces = [
        Pace(channels_last=a, bf16=b, compiled=c, fused=d)
        for a in (False, True)
        for b in (False, True)
        for c in (False, True)
        for d in (False, True)
    ]

    assert [pace_named(pace.name) for pace in paces] == paces
    assert pace_named(EXACT) == EXACT_PACE


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_layout_and_fused_optimiser_change_nothing_but_rounding(optimizer) -> None:
    from potstill.train import OptimizerName

    name = OptimizerName(optimizer)
    exact = _trained(EXACT_PACE, optimizer=name).state_dict()
    fast = _trained(Pace(channels_last=True, fused=True), optimizer=name).state_dict()

    for key, value in exact.items():
        torch.testing.assert_close(fast[key], value, atol=2e-5, rtol=2e-4)


def test_bf16_keeps_the_weights_and_their_gradients_in_float32() -> None:
    student = _trained(Pace(bf16=True, channels_last=True, fused=True))

    assert {p.dtype for p in student.parameters()} == {torch.float32}
    exact = _trained(EXACT_PACE)
    moved = torch.cat([(p - q).flatten() for p, q in _pairs(exact, _net(dropout=0.2))])
    apart = torch.cat([(p - q).flatten() for p, q in _pairs(exact, student)])
    assert 0 < float(apart.norm()) < 0.5 * float(moved.norm())


def _pairs(one: nn.Module, other: nn.Module):
    return [(p.detach(), q.detach()) for p, q in zip(one.parameters(), other.parameters())]  # noqa: B905


@pytest.mark.slow
def test_a_compiled_step_is_the_exact_one_but_for_rounding_with_short_batches_and_dropout() -> None:
    exact = _trained(EXACT_PACE).state_dict()
    fast = _trained(Pace(compiled=True)).state_dict()

    for key, value in exact.items():
        torch.testing.assert_close(fast[key], value, atol=2e-5, rtol=2e-4)


def test_a_trained_student_lies_in_memory_as_usual(tmp_path) -> None:
    from potstill.train import TensorBatches

    batches = TensorBatches(_batches(32)[0].inputs, torch.arange(32) % 4, batch_size=16)
    distiller = Distiller(
        _net(), None, runtime=Runtime(device="cpu"), pace=Pace(channels_last=True),
        settings=TrainSettings(epochs=1, batch_size=16, ema=0.9),
    )  # fmt: skip

    fit = distiller.fit(batches, batches, folder=tmp_path)

    for weights in (fit.student.state_dict(), fit.last, fit.best):
        assert all(value.is_contiguous() for value in weights.values())


# Choosing


@pytest.fixture
def eager_only(monkeypatch):
    """Paces without compilation, each of them tried."""
    every = pacing._Measured.paces
    monkeypatch.setattr(
        pacing._Measured, "paces", lambda self: [p for p in every(self) if not p[0].compiled]
    )
    monkeypatch.setattr(choosing, "MARGIN", -1e9)
    monkeypatch.setattr(choosing, "WORTHWHILE", 1e9)


def test_gradients_are_compared_and_the_student_is_left_alone(eager_only) -> None:
    student = _net()
    before = deepcopy(student.state_dict())

    choice, pace = choose_pace(_stint(student))

    tried = [t for t in choice.trials if t.difference is not None and t.difference.gradient]
    assert tried
    assert all(t.difference.gradient > 0.99 for t in tried)
    assert pace.name == choice.chosen.name
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())


def test_micro_batches_are_measured_as_they_are_trained(eager_only) -> None:
    choice, _ = choose_pace(_stint(settings=TrainSettings(batch_size=16, accumulate=4)))

    assert not [t for t in choice.trials if t.state is State.FAILED]


def test_features_are_measured_too(eager_only) -> None:
    hint = OBJECTIVE + 5 * Hint("2", "2")
    choice, _ = choose_pace(_stint(objective=hint))

    assert not [t for t in choice.trials if t.state is State.FAILED]


def test_a_few_steps_cost_no_look() -> None:
    class Untouched(nn.Linear):
        def forward(self, x):
            raise AssertionError("nothing is to be computed")

    choice, pace = choose_pace(_stint(Untouched(192, 4), steps=50))

    assert pace == EXACT_PACE
    assert "too few" in choice.chosen.reason


class Cancelling(nn.Module):
    """What bfloat16 breaks: a small difference of large products."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Linear(192, 32), nn.Linear(32, 4)

    def forward(self, x):
        flat = x.flatten(1)
        return self.head(torch.sin(self.first(flat + 300.0) - self.first(flat * 0 + 300.0)))


def test_a_pace_that_bends_the_gradient_is_refused(eager_only) -> None:
    choice, pace = choose_pace(_stint(Cancelling()))

    (low,) = [t for t in choice.trials if "bf16" in t.name]
    assert low.state is State.REFUSED
    assert "cosine of gradients" in low.reason or "loss" in low.reason
    assert not pace.bf16


def test_without_a_compiler_the_rest_is_chosen_from(monkeypatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", missing)
    monkeypatch.setattr(choosing, "MARGIN", -1e9)
    monkeypatch.setattr(choosing, "WORTHWHILE", 1e9)

    choice, pace = choose_pace(_stint())

    compiled = [t for t in choice.trials if "compiled" in t.name]
    assert compiled
    for trial in compiled:
        assert trial.state is State.FAILED
        assert trial.reason == "No working C++ compiler found"
    assert not pace.compiled


def test_a_precision_that_was_asked_for_is_not_changed() -> None:
    stint = _stint(runtime=Runtime(device="cpu", precision="bf16-mixed"))

    names = [pace.name for pace, _ in pacing._Measured(stint).paces()]

    assert not [name for name in names if "bf16" in name]
