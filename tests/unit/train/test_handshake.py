"""The handshake lists every mismatch at once, each with its way out."""

import pytest
import torch
from torch import nn

from potstill.errors import HandshakeError
from potstill.losses import (
    DIST,
    DKD,
    KD,
    BinaryKD,
    CrossEntropy,
    Hint,
    LogitMSE,
    SquaredError,
    WeightPenalty,
)
from potstill.losses.objective import objective_of
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.runtime.fabric import Runtime
from potstill.signals import Batch, Signals, SparseLogits
from potstill.tasks import Classification, MultiLabel, Regression
from potstill.teachers import FunctionTeacher, ModuleTeacher, Relabelled
from potstill.testing import tiny_mlp
from potstill.train import Distiller, TrainSettings
from potstill.train.handshake import shake_hands


def _batch(**changes) -> Batch:
    inputs = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    return Batch(**{"inputs": inputs, "labels": torch.tensor([0, 1, 2, 0, 1, 2]), **changes})


def _shake(objective, *, student=None, teacher="mlp", task=None, batch=None, pieces=1):
    if teacher == "mlp":
        teacher = ModuleTeacher(tiny_mlp(6, 9, 3, seed=2), task or Classification())
    return shake_hands(
        student or tiny_mlp(6, 8, 3),
        teacher,
        objective=objective_of(objective),
        task=task or Classification(),
        batch=batch or _batch(),
        pieces=pieces,
    )


def _soft(x):
    return x[:, :3].log_softmax(-1)


_LOGPROBS = FunctionTeacher(_soft, kind=LogitKind.LOGPROBS)
_TEN = ModuleTeacher(tiny_mlp(6, 10), Classification())
_FLOATS = torch.full((6, 3), 1 / 3)
_MANY = torch.ones(6, 3)


@pytest.mark.parametrize(
    ("objective", "options", "words"),
    [
        (KD(), {"teacher": None}, ["kd: it needs a teacher", "leave the term out"]),
        (LogitMSE(), {"teacher": _LOGPROBS}, ["logit_mse", "log-probabilities", "Use kd"]),
        (Hint("0", "0"), {"teacher": _LOGPROBS}, ["layer '0'", "shows no layers"]),
        (Hint("00", "0"), {}, ["the student has no layer '00'", "did you mean '0'"]),
        (Hint("0", "00"), {}, ["the teacher has no layer '00'", "did you mean '0'"]),
        (DKD(), {"batch": _batch(labels=_FLOATS)}, ["mixed or soft", "Switch mixing off"]),
        (CrossEntropy(), {"batch": _batch(labels=None)}, ["needs labels", "none"]),
        (KD(), {"task": MultiLabel(), "batch": _batch(labels=_MANY)}, ["kd", "use binary_kd"]),
        (BinaryKD(), {}, ["binary_kd", "use kd and cross_entropy"]),
        (KD(), {"task": Regression(), "batch": _batch(labels=_MANY)}, ["use squared_error"]),
        (SquaredError(), {}, ["squared_error", "the task is single_label"]),
        (KD(), {"teacher": _TEN}, ["3 outputs, the teacher 10", "label_map", "the student's 3"]),
        (CrossEntropy(), {"batch": _batch(labels=torch.full((6,), 7))}, ["class 7", "only 3"]),
        (
            BinaryKD(),
            {"task": MultiLabel(), "batch": _batch(labels=torch.ones(6, 5))},
            ["5 columns, the student 3"],
        ),
        (CrossEntropy(), {"student": tiny_mlp(5, 8, 3)}, ["student cannot run on inputs (6,)"]),
        (
            KD(),
            {"teacher": ModuleTeacher(tiny_mlp(5, 3), Classification())},
            ["teacher cannot run on inputs (6,)", "made for such data"],
        ),
        (
            KD(),
            {"student": tiny_mlp(6, 8, 1), "teacher": FunctionTeacher(lambda x: x[:, :1])},
            ["1 outputs", "at least 2"],
        ),
        (
            KD() + WeightPenalty(),
            {"student": tiny_mlp(6, 8, 3).requires_grad_(False)},
            ["no weights that train", "Unfreeze"],
        ),
    ],
)  # fmt: skip
def test_each_mismatch_names_its_way_out(objective, options, words) -> None:
    with pytest.raises(HandshakeError) as caught:
        _shake(objective, **options)

    for word in words:
        assert word in str(caught.value)


class Sparse(Teacher):
    """Keeps one class of three, at temperature 2."""

    def offers(self) -> Offers:
        return Offers(logits=LogitKind.SPARSE, num_classes=3)

    def fingerprint(self) -> str:
        return "0"

    def signals(self, batch, *, layers=()):
        n = len(batch)
        kept = torch.zeros(n, 1, dtype=torch.long), torch.full((n, 1), 0.6).log()
        return Signals(SparseLogits(*kept, torch.full((n,), 0.4), 3, 2.0))


def test_kept_classes_suit_divergences_at_their_temperature() -> None:
    assert _shake(KD(temperature=2) + CrossEntropy(), teacher=Sparse()).objective

    with pytest.raises(HandshakeError, match=r"kd: it has temperature 4, .* computed at 2"):
        _shake(KD(temperature=4), teacher=Sparse())
    with pytest.raises(HandshakeError, match=r"dkd: it needs .* all classes.*Use kd"):
        _shake(DKD() + KD(temperature=2), teacher=Sparse())


def test_all_problems_are_listed_at_once() -> None:
    objective = KD() + LogitMSE() + DKD() + Hint("first", "0") + Hint("0", "nowhere")

    with pytest.raises(HandshakeError) as caught:
        _shake(
            objective,
            teacher=FunctionTeacher(_ten_logprobs, kind=LogitKind.LOGPROBS),
            batch=_batch(labels=_FLOATS),
        )

    lines = str(caught.value).splitlines()
    assert lines[0] == "This cannot be trained:"
    assert len(lines[1:]) == 6, lines
    for line, word in zip(
        lines[1:],
        ["logit_mse", "dkd", "hint: it needs the teacher's", "student has no layer 'first'"],
        strict=False,
    ):
        assert word in line
    assert "10" in lines[-1]


def _ten_logprobs(x):
    return torch.zeros(len(x), 10)


def test_a_label_map_is_the_way_out() -> None:
    agreement = _shake(KD(), teacher=Relabelled(_TEN, [7, 0, 2]))

    assert agreement.objective.names == ("kd",)


def test_terms_that_compare_rows_are_noted_when_batches_are_cut() -> None:
    assert _shake(2 * DIST() + CrossEntropy()).pairing == ()

    (note,) = _shake(2 * DIST() + CrossEntropy(), pieces=3).pairing

    assert "dist" in note
    assert "3 pieces" in note
    assert "accumulate=1" in note


def test_the_distiller_passes_on_into_how_many_pieces_it_cuts() -> None:
    distiller = Distiller(
        tiny_mlp(6, 8, 3),
        ModuleTeacher(tiny_mlp(6, 9, 3), Classification()),
        objective=DIST(),
        settings=TrainSettings(accumulate=2),
        runtime=Runtime(device="cpu"),
    )

    assert "2 pieces" in distiller.prepare(_batch()).pairing[0]


def test_the_pairing_shows_how_layers_meet() -> None:
    (line,) = _shake(KD() + Hint("0", "0")).pairing

    assert line.startswith("hint: 0 → 0:")
    assert "linear 8 → 9" in line


def test_the_handshake_leaves_the_student_as_it_was() -> None:
    student = tiny_mlp(6, 8, 3, norm=True).train()
    student[1].eval()
    before = {name: value.clone() for name, value in student.state_dict().items()}

    _shake(KD() + Hint("0", "0"), student=student)

    assert student.training
    assert not student[1].training
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    assert not any(m._forward_hooks for m in student.modules())


def test_a_model_that_does_not_give_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"answered \(6, 2, 3\) for 6 samples.*Wrap the model"):
        _shake(CrossEntropy(), student=nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 3)))
