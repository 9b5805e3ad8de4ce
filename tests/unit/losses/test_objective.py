"""The algebra of terms, how objectives print, and what they pass on."""

import copy
import pickle

import pytest
import torch

from potstill import losses as L
from potstill.errors import HandshakeError, RecipeError
from potstill.protocols import Needs, Term
from potstill.signals import Logits, Partial, Signals, Target

from .cases import logits


class Plain(Term):
    """A third party's term, without arithmetic of its own."""

    def needs(self) -> Needs:
        return Needs(student_logits=True)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        return Partial(student.logits.dense().sum(), self.count(target))

    def __repr__(self) -> str:
        return "Plain()"


TEXTBOOK = 0.9 * L.KD(temperature=4) + 0.1 * L.CrossEntropy()
SOFT = L.JSD() + L.ReverseKL() + L.ProbabilityMSE() + L.KD(standardise=True) + L.LogitMSE()


@pytest.mark.parametrize(
    ("objective", "text"),
    [
        (TEXTBOOK, "0.9 * KD(temperature=4) + 0.1 * CrossEntropy()"),
        (L.KD() + L.CrossEntropy(), "KD(temperature=4) + CrossEntropy()"),
        (2 * TEXTBOOK, "1.8 * KD(temperature=4) + 0.2 * CrossEntropy()"),
        (L.KD(standardise=True) * 9, "9 * KD(temperature=4, standardise=True)"),
        (1e-4 * L.WeightPenalty(), "0.0001 * WeightPenalty()"),
        (1e-7 * L.WeightPenalty(), "1e-07 * WeightPenalty()"),
        (
            50 * L.Hint("layer2", "a.3", distance="cosine"),
            '50 * Hint("layer2", "a.3", distance="cosine")',
        ),
        (1 * L.SquaredError(follow="teacher"), 'SquaredError(follow="teacher")'),
        (L.DKD(beta=0.5) + L.JSD(), "DKD(beta=0.5, temperature=4) + JSD(temperature=1)"),
    ],
)
def test_an_objective_prints_as_the_code_that_makes_it(objective: L.Objective, text: str) -> None:
    assert repr(objective) == text
    namespace = {name: getattr(L, name) for name in L.__all__}
    again = eval(text, namespace)
    assert (again if isinstance(again, L.Objective) else 1 * again) == objective


def test_the_loss_is_the_sum_of_what_is_logged() -> None:
    student, teacher = Signals(Logits(logits(seed=1))), Signals(Logits(logits(seed=2)))
    target = Target(6, torch.arange(6) % 5)

    value = TEXTBOOK(student, teacher, target)

    assert set(value.terms) == {"kd", "cross_entropy"}
    torch.testing.assert_close(sum(value.terms.values()), value.loss)
    kd = L.KD(temperature=4)(student, teacher, target)
    torch.testing.assert_close(value.terms["kd"], 0.9 * kd.total / 6)


def test_two_terms_of_one_class_are_logged_apart() -> None:
    objective = L.KD(temperature=1) + L.CrossEntropy() + L.KD(temperature=4) + L.KD(temperature=8)

    assert objective.names == ("kd", "cross_entropy", "kd_2", "kd_3")


def test_logged_values_carry_no_graph() -> None:
    student = Signals(Logits(logits(seed=1).requires_grad_()))

    value = (1 * L.KD())(student, Signals(Logits(logits(seed=2))), Target(6))

    assert value.loss.requires_grad
    assert not value.terms["kd"].requires_grad


def test_sums_of_objectives_and_strange_terms_add_up() -> None:
    objective = sum([0.5 * L.KD(), L.CrossEntropy(), L.weighted(Plain(), 2)])

    assert repr(objective) == "0.5 * KD(temperature=4) + CrossEntropy() + 2 * Plain()"
    assert repr(L.KD() + Plain()) == "KD(temperature=4) + Plain()"
    assert repr(Plain() + L.KD()) == "Plain() + KD(temperature=4)"
    assert len(objective) == 3
    assert [weight for weight, _ in objective] == [0.5, 1, 2]


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_that_cannot_teach_is_refused(weight: float) -> None:
    with pytest.raises(RecipeError, match="weight of `kd`"):
        weight * L.KD()


@pytest.mark.parametrize("factor", ["2", None, True, torch.tensor(2.0)])
def test_only_numbers_are_weights(factor: object) -> None:
    with pytest.raises(TypeError):
        L.KD() * factor


def test_only_terms_can_be_added() -> None:
    with pytest.raises(TypeError):
        TEXTBOOK + 3
    with pytest.raises(RecipeError, match="at least one term"):
        L.Objective(())


def test_needs_are_merged() -> None:
    needs = (TEXTBOOK + L.DKD() + L.Hint("a", "b") + L.Hint("a", "c") + L.WeightPenalty()).needs()

    assert needs.student_layers == ("a",)
    assert needs.teacher_layers == ("b", "c")
    assert needs.labels
    assert needs.class_labels
    assert needs.student_weights
    assert needs.min_classes == 3
    assert not needs.raw_teacher_logits
    assert needs.kinds == {"single_label", "tokens"}


def test_terms_for_different_targets_do_not_go_together() -> None:
    with pytest.raises(HandshakeError, match=r"`kd` is for .*`binary_kd` is for multi_label"):
        (L.KD() + L.BinaryKD()).needs()


def test_objectives_are_values() -> None:
    assert L.KD() == L.KD(temperature=4.0)
    assert hash(L.KD()) == hash(L.KD(temperature=4.0))
    assert pickle.loads(pickle.dumps(TEXTBOOK)) == TEXTBOOK
    assert copy.deepcopy(TEXTBOOK) == TEXTBOOK
    with pytest.raises(AttributeError):
        L.KD().temperature = 3


def test_global_counts_must_be_one_for_each_term() -> None:
    student, teacher = Signals(Logits(logits(seed=1))), Signals(Logits(logits(seed=2)))

    with pytest.raises(ValueError, match="zip"):
        TEXTBOOK(student, teacher, Target(6, torch.arange(6) % 5), (6,))


@pytest.mark.parametrize(
    "objective", [TEXTBOOK, L.DKD() + L.DIST() + L.WTTM() + L.NKD(), SOFT], ids=repr
)
def test_no_value_is_ever_asked_back_from_the_device(objective: L.Objective) -> None:
    # On the meta device there are no values: .item(), bool() or boolean indexing would raise.
    student = Signals(Logits(torch.randn(6, 5, device="meta", requires_grad=True)))
    teacher = Signals(Logits(torch.randn(6, 5, device="meta")))
    mask = torch.ones(6, dtype=torch.bool, device="meta")
    target = Target(6, torch.zeros(6, dtype=torch.long, device="meta"), mask, mask)

    value = objective(student, teacher, target, objective.counts(target))
    value.loss.backward()

    assert value.loss.is_meta
