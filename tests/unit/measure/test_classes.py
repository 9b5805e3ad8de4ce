"""Figures of single classes against numbers worked out by hand."""

import numpy as np
import pytest

from potstill.measure.classes import class_calibration, class_records, wilson

# true 0 0 0 1 1 2, said 0 0 1 1 0 1
LABELS = np.array([0, 0, 0, 1, 1, 2])
LOGITS = 9.0 * np.eye(3)[[0, 0, 1, 1, 0, 1]]


def test_every_class_is_looked_at_against_all_others() -> None:
    first, second, third = class_records(
        [LOGITS], LABELS, kind="single_label", names=("a", "b", "c")
    )

    assert first["support"] == 3
    assert first["prevalence"] == 0.5
    assert first["sensitivity"]["mean"] == pytest.approx(2 / 3)
    assert first["specificity"]["mean"] == pytest.approx(2 / 3)
    assert first["ppv"]["mean"] == pytest.approx(2 / 3)
    assert second["sensitivity"]["mean"] == pytest.approx(1 / 2)
    assert second["specificity"]["mean"] == pytest.approx(2 / 4)
    assert second["ppv"]["mean"] == pytest.approx(1 / 3)
    assert third["sensitivity"]["mean"] == 0.0
    assert third["specificity"]["mean"] == 1.0


def test_what_has_no_row_is_no_figure() -> None:
    *_, third, never = class_records(
        [np.pad(LOGITS, ((0, 0), (0, 1)), constant_values=-9.0)],
        LABELS,
        kind="single_label",
        names=("a", "b", "c", "d"),
    )

    assert third["ppv"] == {"mean": None, "ci95": None, "values": [None]}
    assert never["sensitivity"]["mean"] is None
    assert never["specificity"]["mean"] == 1.0


def test_seeds_are_averaged_and_labels_decided_one_by_one() -> None:
    labels = np.array([[1.0, 0.0], [1.0, 1.0]])
    seeds = [np.array([[3.0, -3.0], [3.0, -3.0]]), np.array([[3.0, -3.0], [-3.0, 3.0]])]

    first, second = class_records(seeds, labels, kind="multi_label", names=("a", "b"))

    assert first["sensitivity"]["values"] == [1.0, 0.5]
    assert first["sensitivity"]["mean"] == 0.75
    assert second["sensitivity"]["values"] == [0.0, 1.0]


def test_wilson_interval_of_eight_in_ten() -> None:
    """Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E."""
    assert wilson(81 / 263, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert wilson(0 / 20, 20) == pytest.approx([0.0, 0.1611], abs=5e-5)


def test_calibration_of_one_class_by_hand() -> None:
    probs = np.array([0.05, 0.05, 0.95, 0.95])
    true = np.array([False, False, True, False])

    # bin of 0.05: no class, said 0.05; bin of 0.95: half of them, said 0.95
    assert class_calibration(probs, true) == pytest.approx((2 * 0.05 + 2 * 0.45) / 4)
    assert class_calibration(np.array([1.0, 0.0]), np.array([True, False])) == 0.0
