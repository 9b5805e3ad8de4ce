"""Options and inputs that cannot teach are refused with a sentence that helps."""

import pytest
import torch

from potstill import losses as L
from potstill.errors import HandshakeError, PotstillError, RecipeError
from potstill.signals import Logits, Signals, SparseLogits, Target

from .cases import logits


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("kdd", {}, "did you mean `kd`"),
        ("zzz", {}, "known: cross_entropy, kd"),
        ("kd", {"temprature": 3}, "did you mean `temperature`"),
        ("kd", {"temperature": 0}, "above 0"),
        ("kd", {"temperature": -4}, r"temperature=-4"),
        ("kd", {"temperature": "4"}, "finite number"),
        ("kd", {"temperature": True}, "finite number"),
        ("kd", {"temperature": float("inf")}, "finite number"),
        ("kd", {"standardise": "yes"}, "true or false"),
        ("cross_entropy", {"label_smoothing": 1}, "below 1"),
        ("cross_entropy", {"temperature": 1}, "its options: label_smoothing"),
        ("logit_mse", {"temperature": 1}, "it has none"),
        ("jsd", {"beta": 0}, "above 0 and below 1"),
        ("jsd", {"beta": 1}, "above 0 and below 1"),
        ("wttm", {"gamma": 0}, "above 0"),
        ("dkd", {"beta": -1}, "at least 0"),
        ("huber", {"delta": 0}, "above 0"),
        ("squared_error", {"follow": "data"}, '"labels", "teacher"'),
        ("ofa_exits", {"student_layers": []}, "the name of a layer, a list of names, or"),
        ("hint", {"student_layer": "a", "teacher_layer": "b", "distance": "l2"}, "cosine"),
        ("hint", {"student_layer": "a", "teacher_layer": "b", "student_layout": "x"}, "tokens"),
        ("hint", {"student_layer": "a", "teacher_layer": "b", "project": 1}, "true or false"),
    ],
)
def test_recipes_get_a_sentence_for_each_mistake(name: str, options: dict, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        L.create(name, options)
    assert "\n" not in str(caught.value)


def test_the_catalogue_builds_every_term_by_its_own_name() -> None:
    for name, term_class in L.TERMS.items():
        term = L.create(name, {})
        assert type(term) is term_class
        assert term.name == name


def test_options_are_taken_over() -> None:
    assert L.create("kd", {"temperature": 8}) == L.KD(temperature=8)
    assert L.create("hint", {"student_layer": "a", "teacher_layer": "b"}) == L.Hint("a", "b")
    assert L.create("ofa_exits", {"student_layers": ["auto"]}) == L.OFAExits()


@pytest.mark.parametrize("term", [L.KD(), L.CrossEntropy(), L.JSD(), L.ProbabilityMSE()], ids=repr)
def test_a_softmax_over_one_class_is_refused(term: L.RowTerm) -> None:
    one = Signals(Logits(torch.randn(4, 1)))

    assert term.needs().min_classes == 2
    with pytest.raises(HandshakeError, match="at least 2 classes and got 1"):
        term(one, one, Target(4, torch.zeros(4, dtype=torch.long)))


@pytest.mark.parametrize("term", [L.DKD(), L.NKD(), L.DIST(), L.KD(standardise=True)], ids=repr)
def test_two_classes_are_refused_where_they_give_no_gradient(term: L.ArithmeticTerm) -> None:
    two = Signals(Logits(torch.randn(4, 2)))

    with pytest.raises(HandshakeError, match="at least 3 classes and got 2"):
        term(two, two, Target(4, torch.zeros(4, dtype=torch.long)))


def test_unequal_class_counts_are_named() -> None:
    with pytest.raises(HandshakeError, match=r"\[6, 5\] from the student and \[6, 7\]"):
        L.KD()(Signals(Logits(logits(seed=1))), Signals(Logits(torch.randn(6, 7))), Target(6))


@pytest.mark.parametrize(
    ("student", "teacher", "says"),
    [
        (Signals(), Signals(Logits(torch.randn(6, 5))), "student's logits"),
        (Signals(Logits(torch.randn(6, 5))), Signals(), "teacher's logits"),
        (Signals(Logits(torch.randn(3, 2, 5))), Signals(Logits(torch.randn(3, 2, 5))), "rows"),
        (
            Signals(Logits(torch.randn(6, 5))),
            Signals(
                SparseLogits(torch.zeros(6, 2).long(), torch.zeros(6, 2), torch.zeros(6), 5, 1)
            ),
            "temperature 4, and .* computed at 1",
        ),
    ],
)
def test_missing_signals_are_named(student: Signals, teacher: Signals, says: str) -> None:
    with pytest.raises(HandshakeError, match=says):
        L.KD()(student, teacher, Target(6))


@pytest.mark.parametrize("labels", [torch.rand(6, 5), torch.rand(6)], ids=["soft", "float"])
def test_soft_labels_are_refused_where_one_class_is_needed(labels: torch.Tensor) -> None:
    both = Signals(Logits(logits(seed=1)))

    with pytest.raises(HandshakeError, match="whole numbers"):
        L.DKD()(both, both, Target(6, labels))


def test_regression_labels_of_another_width_are_refused() -> None:
    student = Signals(Logits(torch.randn(6, 2)))

    with pytest.raises(HandshakeError, match="2 outputs, got labels of shape"):
        L.SquaredError()(student, Signals(), Target(6, torch.randn(6, 3)))


def test_regression_labels_of_one_output_may_be_flat() -> None:
    student, labels = torch.randn(6, 1), torch.randn(6)

    partial = L.SquaredError()(Signals(Logits(student)), Signals(), Target(6, labels))

    torch.testing.assert_close(partial.total, (student[:, 0] - labels).square().sum())


def test_a_penalty_without_weights_is_refused() -> None:
    with pytest.raises(PotstillError, match="student's weights"):
        L.WeightPenalty()(Signals(), Signals(), Target(6))
