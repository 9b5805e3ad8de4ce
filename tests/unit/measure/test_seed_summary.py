"""Summaries over seeds: oracles by hand, and what the interval promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import DataError
from potstill.measure.summary import summarise

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12)


def test_three_values_by_hand() -> None:
    summary = summarise([1.0, 2.0, 3.0])

    assert summary["mean"] == 2.0
    assert summary["std"] == 1.0
    # t(0.975, 2) = 4.302653 from any table, over sqrt(3)
    assert summary["ci95"] == pytest.approx(
        [2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5], rel=1e-6
    )
    assert summary["values"] == [1.0, 2.0, 3.0]


def test_one_value_has_no_spread() -> None:
    assert summarise([0.5]) == {"mean": 0.5, "std": None, "ci95": None, "values": [0.5]}


def test_numbers_of_numpy_become_plain_floats() -> None:
    summary = summarise(list(np.asarray([0.5, 0.25], dtype=np.float32)))

    assert all(type(v) is float for v in summary["values"])


@given(NUMBERS)
def test_the_interval_holds_the_mean_in_its_middle(values: list[float]) -> None:
    summary = summarise(values)

    assert summary["ci95"] is not None
    low, high = summary["ci95"]
    assert low <= summary["mean"] <= high
    assert (low + high) / 2 == pytest.approx(
        summary["mean"], abs=1e-6 * max(map(abs, values)) + 1e-9
    )


def test_the_interval_covers_the_truth_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)

    intervals = [summarise(list(row))["ci95"] for row in rng.normal(3.0, 2.0, (4000, 4))]

    covered = np.mean([ci is not None and ci[0] <= 3.0 <= ci[1] for ci in intervals])
    assert covered == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_no_number_is_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match="values to summarise"):
        summarise(values)
