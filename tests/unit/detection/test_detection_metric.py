"""Average precision on examples that can be done by hand."""

import numpy as np
import pytest
import torch

from potstill.measure.boxes import box_agreement, counts
from potstill.tasks import Detection

from .scenes import labels


def found(*pictures: list[list[float]], rows: int = 3) -> torch.Tensor:
    """`[B, 6 * rows]` of lists of corners, score and class."""
    made = torch.zeros(len(pictures), rows, 6)
    made[..., 5] = -1
    for number, boxes in enumerate(pictures):
        for row, box in enumerate(boxes):
            made[number, row] = torch.tensor(box)
    return made.flatten(1)


def scored(outputs: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    task = Detection(("a", "b"))
    values = task.metrics(outputs.shape[1])(task.scores(outputs), truth)
    return {name: float(value) for name, value in values.items()}


def test_one_hit_one_miss_and_one_invention() -> None:
    # Class a: a hit at 0.9, an invention at 0.95: precision 1/2 at full recall. Class b: missed.
    outputs = found([[0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.95, 0]], [])
    truth = labels([[0, 0, 0, 10, 10]], [[1, 5, 5, 20, 20]])

    figures = scored(outputs, truth)

    assert figures["ap_a"] == pytest.approx(0.5)
    assert figures["ap_b"] == 0
    assert figures["map"] == pytest.approx(0.25)


def test_an_overlap_of_two_thirds_counts_up_to_it() -> None:
    # IoU 2/3: a hit at the thresholds 0.50, 0.55, 0.60, 0.65 of ten.
    outputs, truth = found([[0, 0, 10, 10, 0.9, 0]]), labels([[0, 0, 0, 15, 10]])

    figures = scored(outputs, truth)

    assert figures["map"] == pytest.approx(0.4)
    assert figures["map_50"] == pytest.approx(1.0)
    assert figures["map_75"] == 0


def test_what_lies_in_a_box_to_be_ignored_is_no_mistake() -> None:
    outputs = found([[0, 0, 10, 10, 0.9, 0], [30, 30, 40, 40, 0.99, 0]])
    truth = [[0, 0, 0, 10, 10]]

    assert scored(outputs, labels(truth))["map"] == pytest.approx(0.5)
    assert scored(outputs, labels([*truth, [0, 25, 25, 60, 60, 1]]))["map"] == pytest.approx(1.0)


def test_nothing_at_all_is_zero_and_not_minus_one() -> None:
    figures = scored(found([]), labels([]))

    assert figures == dict.fromkeys(("map", "map_50", "map_75", "ap_a", "ap_b"), 0.0)


def test_agreement_is_the_share_that_both_find() -> None:
    a = found([[0, 0, 10, 10, 0.9, 0], [20, 20, 30, 30, 0.8, 1], [0, 0, 9, 9, 0.1, 1]]).numpy()
    b = found([[1, 0, 10, 10, 0.6, 0], [20, 20, 30, 30, 0.9, 0]]).numpy()

    assert box_agreement(a, b) == pytest.approx(1 / 3)
    assert box_agreement(a, a) == 1
    assert box_agreement(found([]).numpy(), found([]).numpy()) == 1
    np.testing.assert_array_equal(counts(a, num_classes=3), [[1, 1, 0]])
