"""Weights and options that move: their values, how they print, and that a stopped run goes on."""

import math

import pytest
import torch

from potstill.build.learning import build_objective
from potstill.errors import HandshakeError, RecipeError
from potstill.losses import DIST, KD, CrossEntropy, Hint, Objective, Ramp, scheduled
from potstill.recipe import TermSpec
from potstill.signals import Logits, Signals, Target
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.testing import TinyClasses, tiny_mlp
from potstill.train import Distiller, TrainSettings


@pytest.mark.parametrize(
    ("ramp", "values"),
    [
        (Ramp(1, 0), [1, 0.75, 0.5, 0.25, 0]),
        (Ramp(2, 4, begin=0.5), [2, 2, 2, 3, 4]),
        (Ramp(2, 4, until=0.5), [2, 3, 4, 4, 4]),
        (Ramp(1, 0, shape="cosine"), [0.5 + 0.5 * math.cos(math.pi * s / 4) for s in range(5)]),
    ],
)
def test_a_ramp_has_these_values(ramp: Ramp, values: list[float]) -> None:
    assert [ramp.at(share / 4) for share in range(5)] == pytest.approx(values)
    assert eval(repr(ramp)) == ramp


def test_an_objective_that_moves_prints_as_the_code_that_makes_it() -> None:
    objective = (
        Ramp(1, 0.5, shape="cosine") * KD(temperature=4)
        + 0.1 * CrossEntropy()
        + scheduled(KD(temperature=8), temperature=Ramp(8, 2, until=0.5))
    )

    assert repr(objective) == (
        'Ramp(1, 0.5, shape="cosine") * KD(temperature=4) + 0.1 * CrossEntropy() + '
        "scheduled(KD(temperature=8), temperature=Ramp(8, 2, until=0.5))"
    )
    assert repr(eval(repr(objective))) == repr(objective)
    assert repr(objective.during(1)) == (
        "0.5 * KD(temperature=4) + 0.1 * CrossEntropy() + KD(temperature=2)"
    )
    assert repr(2 * (Ramp(1, 0) * KD())) == "Ramp(2, 0) * KD(temperature=4)"
    assert objective.names == objective.during(0.3).names == ("kd", "cross_entropy", "kd_2")


def test_its_value_is_that_of_the_plain_objective_of_the_moment() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 4, generator=generator) for _ in range(2))
    said = Signals(Logits(student)), Signals(Logits(teacher)), Target(5, torch.arange(5) % 4)
    objective = Ramp(1, 0) * scheduled(KD(), temperature=Ramp(8, 1)) + CrossEntropy()

    for share in (0.0, 0.3, 1.0):
        plain = (1 - share) * KD(temperature=8 - 7 * share) + CrossEntropy()
        assert torch.equal(objective.during(share)(*said).loss, plain(*said).loss)
    assert torch.equal(objective(*said).loss, objective.during(0)(*said).loss)


def test_recipes_write_what_moves_as_a_mapping() -> None:
    made = build_objective(
        [
            TermSpec(term="kd", weight={"from": 1, "to": 0}, temperature={"from": 8, "to": 1}),
            TermSpec(term="cross_entropy", weight=0.5),
        ]
    )

    assert repr(made) == (
        "Ramp(1, 0) * scheduled(KD(temperature=8), temperature=Ramp(8, 1)) + 0.5 * CrossEntropy()"
    )


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"weight": {"from": 1}}, r"`kd.weight` is .* is written \{from: 1, to: 0"),
        ({"weight": {"from": 1, "to": -1}}, "a negative weight would unteach"),
        ({"weight": {"from": 1, "to": 0, "shape": "step"}}, "linear or cosine"),
        ({"weight": {"from": 1, "to": 0, "begin": 0.6, "until": 0.5}}, "in order, from 0 to 1"),
        ({"temperature": {"from": 4, "to": 0}}, "temperature=0"),
        ({"standardise": {"from": 0, "to": 1}}, "standardise"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(spec: dict, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        build_objective([TermSpec(term="kd", **spec)])


def test_terms_that_learn_have_moving_weights_and_no_moving_options() -> None:
    hint = scheduled(Hint("0", "0", seed=1), seed=Ramp(1, 2))
    features = {"0": torch.randn(3, 5)}, {"0": torch.randn(3, 7)}

    with pytest.raises(HandshakeError, match="has parts that learn"):
        hint.bind(*(Signals(features=f) for f in features))
    with pytest.raises(RecipeError, match="no option `heat` to move"):
        scheduled(KD(), heat=Ramp(1, 2))
    with pytest.raises(RecipeError, match="cannot be multiplied"):
        Ramp(1, 0) * (Ramp(1, 0) * KD())
    assert scheduled(DIST(), temperature=Ramp(4, 1)).count(Target(7)) == 7


def _distiller(objective: Objective) -> Distiller:
    teacher = ModuleTeacher(tiny_mlp(6, 8, 3, seed=5), Classification())
    settings = TrainSettings(epochs=4, lr=0.01, checkpoint_seconds=0)
    student = tiny_mlp(6, 5, 3, seed=1)
    return Distiller(student, teacher, objective=objective, settings=settings)


def test_the_loss_follows_the_ramp_and_a_stopped_training_goes_on_exactly(tmp_path) -> None:
    objective = Ramp(1, 0) * scheduled(KD(), temperature=Ramp(8, 1)) + 0.1 * CrossEntropy()
    whole = _distiller(objective).fit(TinyClasses())

    class Stopped(Exception):
        pass

    class Once:
        def __init__(self) -> None:
            self.batches = TinyClasses()
            self.num_batches = self.batches.num_batches

        def batch(self, epoch: int, index: int):
            if (epoch, index) == (2, 1):
                raise Stopped
            return self.batches.batch(epoch, index)

    with pytest.raises(Stopped):
        _distiller(objective).fit(Once(), folder=tmp_path)
    resumed = _distiller(objective).fit(TinyClasses(), folder=tmp_path)

    for name, value in whole.last.items():
        assert torch.equal(value, resumed.last[name]), name
    kd = [line["terms"]["kd"] for line in whole.record.lines if line["split"] == "train"]
    assert kd[-1] < 0.2 * kd[0]
