"""Potstill's own terms, teachers and tasks under the contracts that third parties subclass."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from potstill.losses import (
    DKD,
    JSD,
    KD,
    NKD,
    WTTM,
    CrossEntropy,
    LogitMSE,
    ProbabilityMSE,
    ReverseKL,
    RowTerm,
)
from potstill.protocols import Needs
from potstill.signals import Batch, Logits, Signals, Target
from potstill.tasks import Classification, Embedding, MultiLabel, Regression
from potstill.teachers import (
    Ensemble,
    EstimatorTeacher,
    FunctionTeacher,
    ModuleTeacher,
    Relabelled,
    ViewAverage,
)
from potstill.testing import TaskContract, TeacherContract, TermContract, tiny_mlp, tiny_signals


def _inputs(rows: int = 24) -> torch.Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(3))


# Terms


class TestRowTerms(TermContract):
    @pytest.fixture(
        autouse=True,
        params=[
            KD(temperature=3), KD(standardise=True, temperature=2), CrossEntropy(), DKD(), NKD(),
            WTTM(), JSD(), ReverseKL(), LogitMSE(), ProbabilityMSE(),
            CrossEntropy(label_smoothing=0.1),
        ],
        ids=repr,
    )  # fmt: skip
    def _choose(self, request) -> None:
        self._term = request.param

    def make(self):
        return self._term

    def example(self):
        target = Target(6, labels=torch.tensor([0, 3, 1, 2, 2, 0]))
        return tiny_signals(6, 4, seed=1), tiny_signals(6, 4, seed=2), target


class _Averaging(RowTerm):
    """A term with the commonest mistake: it divides by the rows itself."""

    def needs(self):
        return Needs(student_logits=True, teacher_logits=True)

    def row_losses(self, student_NC, teacher_NC, labels):
        return (student_NC - teacher_NC).square().sum(-1) / len(student_NC)


def test_a_term_that_averages_fails_the_contract() -> None:
    class Contract(TermContract):
        def make(self):
            return _Averaging()

        def example(self):
            return tiny_signals(6, 4, seed=1), tiny_signals(6, 4, seed=2), Target(6)

    Contract().test_value_is_a_finite_scalar_with_gradient()
    with pytest.raises(AssertionError):
        Contract().test_two_parts_add_up_to_the_whole()


# Teachers


def _module(seed: int = 1) -> ModuleTeacher:
    return ModuleTeacher(tiny_mlp(6, 8, 4, seed=seed, dropout=0.5, norm=True), Classification())


def _forest(seed: int = 0) -> EstimatorTeacher:
    x = _inputs(60).numpy()
    made = RandomForestClassifier(5, max_depth=3, random_state=seed).fit(x, np.arange(60) % 4)
    return EstimatorTeacher(made, kind="single_label", num_outputs=4, raw_inputs=False)


def _double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x[:, :4]


def _triple(x: torch.Tensor) -> torch.Tensor:
    return 3 * x[:, :4]


_TEACHERS = {
    "module": (_module, lambda: _module(2), ("0", "2")),
    "estimator": (_forest, lambda: _forest(1), ()),
    "function": (lambda: FunctionTeacher(_double), lambda: FunctionTeacher(_triple), ()),
    "ensemble": (
        lambda: Ensemble([_module(1), _module(2)], weights=[1, 3]),
        lambda: Ensemble([_module(1), _module(2)], weights=[3, 1]),
        (),
    ),
    "confident": (
        lambda: Ensemble([_module(1), _forest()], confidence=True),
        lambda: Ensemble([_module(1), _forest()]),
        (),
    ),
    "relabelled": (
        lambda: Relabelled(_module(), [3, 1, 0]),
        lambda: Relabelled(_module(), [3, 0, 1]),
        ("0",),
    ),
    "mean over views": (
        lambda: ViewAverage(_module(), _moved, views=2, key="moved"),
        lambda: ViewAverage(_module(), _moved, views=3, key="moved"),
        (),
    ),
}


def _moved(batch: Batch, number: int) -> Batch:
    return replace(batch, inputs=batch.inputs + number / 10)


class TestTeachers(TeacherContract):
    @pytest.fixture(autouse=True, params=list(_TEACHERS))
    def _choose(self, request) -> None:
        self._made, self._other, self._layers = _TEACHERS[request.param]

    def make(self):
        return self._made()

    def make_another(self):
        return self._other()

    def batch(self):
        return Batch(_inputs())

    def layers(self):
        return self._layers


class _Leaky(FunctionTeacher.__mro__[1]):  # Teacher
    def offers(self):
        return _module().offers()

    def fingerprint(self):
        return "0"

    def signals(self, batch, *, layers=()):
        return Signals(logits=Logits(batch.inputs[:, :4] * 2))


def test_a_teacher_that_leaks_gradient_fails_the_contract() -> None:
    class Contract(TeacherContract):
        def make(self):
            return _Leaky()

        def batch(self):
            return Batch(_inputs())

    with pytest.raises(AssertionError):
        Contract().test_answers_carry_no_gradient()


# Tasks


class TestTasks(TaskContract):
    @pytest.fixture(autouse=True, params=["single_label", "multi_label", "regression", "embedding"])
    def _choose(self, request) -> None:
        x = _inputs()
        labels = {
            "single_label": torch.arange(24) % 3,
            "multi_label": (x[:, :3] > 0).float(),
            "regression": x[:, :3] * 2,
            "embedding": x[:, :4],
        }[request.param]
        self._batch = Batch(x, labels)
        self._task = {
            "single_label": Classification,
            "multi_label": MultiLabel,
            "regression": Regression,
            "embedding": Embedding,
        }[request.param]

    def make(self):
        return self._task()

    def model(self) -> nn.Module:
        return tiny_mlp(6, 10, 3, seed=2)

    def batch(self):
        return self._batch
