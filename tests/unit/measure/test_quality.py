"""Figures from logits, each against plain Python or a value worked out by hand."""

import json
import math

import numpy as np
import pytest

from potstill.errors import DataError
from potstill.measure.quality import (
    agreement,
    brier,
    calibration_error,
    confusion,
    nll,
    per_class,
    probabilities,
    sigmoid,
    softmax,
)


def test_softmax_is_that_of_the_schoolbook_and_does_not_overflow() -> None:
    logits = np.asarray([[0.0, math.log(3.0)], [1000.0, 0.0]], dtype=np.float32)

    assert softmax(logits) == pytest.approx(np.asarray([[0.25, 0.75], [1.0, 0.0]]), abs=1e-7)


def test_sigmoid_is_that_of_the_schoolbook_and_does_not_overflow() -> None:
    values = sigmoid(np.asarray([0.0, math.log(3.0), -1000.0, 1000.0]))

    assert values == pytest.approx(np.asarray([0.5, 0.75, 0.0, 1.0]))


def test_regression_values_are_no_probabilities() -> None:
    with pytest.raises(DataError, match="no probabilities"):
        probabilities(np.zeros((2, 1)), kind="regression")


@pytest.mark.parametrize(
    ("kind", "a", "b", "expected"),
    [
        ("single_label", [[2.0, 1], [0, 5]], [[9.0, 1], [3, 1]], 0.5),  # first class, then not
        ("multi_label", [[1.0, -1], [1, 1]], [[2.0, 3], [4, 5]], 0.75),  # one decision of four
        ("regression", [[1.0], [2], [3]], [[10.0], [20], [30]], 1.0),  # proportional
        ("regression", [[1.0], [2], [3]], [[3.0], [2], [1]], -1.0),  # opposite
        ("regression", [[1.0], [1]], [[1.0], [1]], 1.0),  # constant and equal
        ("regression", [[1.0], [1]], [[0.0], [5]], 0.0),  # constant against varying
    ],
)
def test_agreement_by_hand(
    kind: str, a: list[list[float]], b: list[list[float]], expected: float
) -> None:
    assert agreement(np.asarray(a), np.asarray(b), kind=kind) == pytest.approx(expected)


def test_agreement_needs_the_same_rows() -> None:
    with pytest.raises(DataError, match=r"\(3, 2\) and \(4, 2\)"):
        agreement(np.zeros((3, 2)), np.zeros((4, 2)))


def naive_ece(probs: np.ndarray, labels: np.ndarray, bins: int) -> float:
    groups: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probs, labels, strict=True):
        confidence = max(row)
        bin_of_row = max(0, math.ceil(confidence * bins) - 1)
        hit = list(row).index(confidence) == label
        groups.setdefault(bin_of_row, []).append((confidence, hit))
    total = 0.0
    for group in groups.values():
        mean_confidence = sum(c for c, _ in group) / len(group)
        accuracy = sum(h for _, h in group) / len(group)
        total += len(group) * abs(accuracy - mean_confidence)
    return total / len(labels)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_plain_python(bins: int) -> None:
    rng = np.random.default_rng(0)
    probs = softmax(rng.normal(0, 2, (200, 5)))
    labels = rng.integers(0, 5, 200)

    calibration = calibration_error(probs, labels, bins=bins)

    assert calibration["ece"] == pytest.approx(naive_ece(probs, labels, bins))
    assert sum(b["count"] for b in calibration["bins"]) == 200
    assert len(calibration["bins"]) == bins


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not() -> None:
    probs = np.eye(3)

    assert calibration_error(probs, np.asarray([0, 1, 2]))["ece"] == 0.0
    assert calibration_error(probs, np.asarray([1, 2, 0]))["ece"] == 1.0


def test_calibration_of_several_labels_counts_decisions() -> None:
    probs = np.asarray([[0.9, 0.2]])  # confident 0.9 in on, 0.8 in off
    labels = np.asarray([[1.0, 1.0]])  # the first is right, the second is not

    calibration = calibration_error(probs, labels, bins=10)

    assert calibration["ece"] == pytest.approx((0.1 + 0.8) / 2)


def test_empty_bins_are_reported_as_empty_and_survive_json() -> None:
    calibration = calibration_error(np.asarray([[0.95, 0.05]]), np.asarray([0]), bins=10)

    assert calibration["bins"][0]["accuracy"] is None
    assert calibration["bins"][9]["count"] == 1
    assert "NaN" not in json.dumps(calibration)


def test_confusion_and_classes_by_hand() -> None:
    labels = np.asarray([0, 0, 0, 1, 1])
    predicted = np.asarray([0, 0, 1, 1, 0])

    table = confusion(labels, predicted, num_classes=3)
    figures = per_class(table)

    assert table == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert figures["support"] == [3, 2, 0]
    assert figures["sensitivity"] == pytest.approx([2 / 3, 1 / 2, None])
    assert figures["specificity"] == pytest.approx([1 / 2, 2 / 3, 1.0])
    assert figures["precision"] == pytest.approx([2 / 3, 1 / 2, None])


@pytest.mark.parametrize("bad", [-1, 3])
def test_classes_out_of_range_are_refused(bad: int) -> None:
    with pytest.raises(DataError, match=r"0\.\.2"):
        confusion(np.asarray([0, 1]), np.asarray([0, bad]), num_classes=3)


def test_brier_and_likelihood_by_hand() -> None:
    probs = np.asarray([[0.7, 0.3], [0.4, 0.6]])
    labels = np.asarray([0, 0])

    assert brier(probs, labels) == pytest.approx((0.09 + 0.09 + 0.36 + 0.36) / 2)
    assert nll(probs, labels) == pytest.approx(-(math.log(0.7) + math.log(0.4)) / 2)


def test_brier_and_likelihood_of_several_labels_by_hand() -> None:
    probs, labels = np.asarray([[0.7, 0.4]]), np.asarray([[1.0, 0.0]])

    assert brier(probs, labels) == pytest.approx((0.09 + 0.16) / 2)
    assert nll(probs, labels) == pytest.approx(-(math.log(0.7) + math.log(0.6)) / 2)


def test_a_certain_mistake_costs_a_finite_amount() -> None:
    assert nll(np.asarray([[1.0, 0.0]]), np.asarray([1])) == pytest.approx(27.631, abs=1e-3)
