"""The verdict: each branch by example, invariances, and how often it says yes by chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from potstill.errors import DataError
from potstill.measure.verdict import Trade, Verdict, judge, ratio, teacher_warning

VALUES = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8)


def accuracy(distilled: list[float], scratch: list[float], teacher: list[float]) -> Verdict:
    return judge(distilled, scratch, teacher, metric="accuracy", higher_is_better=True)


def test_a_clear_gain_with_a_better_teacher_is_help() -> None:
    verdict = accuracy([0.95, 0.96, 0.955], [0.90, 0.905, 0.903], [0.98])

    assert verdict["helped"] == "yes"
    assert verdict["gain"] == pytest.approx(0.955 - 0.902666, abs=1e-5)
    assert verdict["gap_recovered"] == pytest.approx(0.0523333 / 0.0773333, rel=1e-4)
    assert verdict["retention"] == pytest.approx(0.955 / 0.98)
    assert verdict["test"] == "paired t-test over seeds"
    assert verdict["sentence"].startswith("Distillation helped: accuracy 0.955 ")
    assert "3 seeds" in verdict["sentence"]


def test_p_value_and_interval_are_those_of_the_paired_t_test() -> None:
    distilled, scratch = [0.91, 0.92, 0.94, 0.90], [0.90, 0.915, 0.91, 0.905]

    verdict = accuracy(distilled, scratch, [0.99])

    reference = stats.ttest_rel(distilled, scratch)
    interval = reference.confidence_interval(0.95)
    assert verdict["p_value"] == pytest.approx(reference.pvalue)
    assert verdict["gain_ci95"] == pytest.approx([interval.low, interval.high])


def test_a_gain_from_a_useless_teacher_is_not_help() -> None:
    verdict = accuracy([0.95, 0.96, 0.955], [0.90, 0.905, 0.903], [0.10])

    assert verdict["helped"] == "unclear"
    assert "it regularises" in verdict["reason"]
    assert verdict["gap_recovered"] is None


def test_a_useless_teacher_without_gain_is_named() -> None:
    verdict = accuracy([0.90, 0.91, 0.89], [0.905, 0.90, 0.895], [0.10])

    assert verdict["helped"] == "unclear"
    assert "not better than the student" in verdict["reason"]


def test_a_significant_loss_is_no() -> None:
    verdict = accuracy([0.85, 0.86, 0.855], [0.90, 0.905, 0.903], [0.98])

    assert verdict["helped"] == "no"
    assert verdict["gain"] < 0
    assert "worse" in verdict["reason"]


def test_an_interval_below_a_tenth_of_the_gap_is_no() -> None:
    # differences +0.001, -0.001, 0, 0: the interval ends near 0.0013, the gap is 0.09
    verdict = accuracy([0.901, 0.899, 0.90, 0.90], [0.90, 0.90, 0.90, 0.90], [0.99])

    assert verdict["helped"] == "no"
    assert "tenth of the gap" in verdict["reason"]


def test_a_wide_interval_is_unclear() -> None:
    verdict = accuracy([0.95, 0.88, 0.93], [0.90, 0.90, 0.90], [0.99])

    assert verdict["helped"] == "unclear"
    assert "within chance" in verdict["reason"]


def test_a_significant_but_small_gain_says_that_it_is_small() -> None:
    verdict = accuracy([0.9010, 0.9011, 0.9012], [0.90, 0.90, 0.90], [0.99])

    assert verdict["helped"] == "yes"
    assert "small" in verdict["reason"]


def test_one_seed_is_never_clear() -> None:
    verdict = accuracy([0.99], [0.50], [0.999])

    assert verdict["helped"] == "unclear"
    assert (verdict["p_value"], verdict["gain_ci95"]) == (None, None)
    assert "1 seed)" in verdict["sentence"]


def test_equal_students_in_every_seed_is_no() -> None:
    verdict = accuracy([0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [0.99])

    assert verdict["helped"] == "no"
    assert (verdict["gain"], verdict["p_value"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("seeds", "helped"),
    [
        (2, "unclear"),  # p = 0.5
        (3, "unclear"),  # p = 0.25
        (5, "unclear"),  # p = 0.0625
        (6, "yes"),  # p = 0.03125
    ],
)
def test_the_same_gain_in_every_seed_counts_as_the_sign_test_does(seeds: int, helped: str) -> None:
    scratch = [0.90 + 0.01 * i for i in range(seeds)]

    verdict = accuracy([s + 0.01 for s in scratch], scratch, [0.99])

    assert verdict["helped"] == helped
    assert verdict["p_value"] == 2.0 ** (1 - seeds)
    assert verdict["test"] == "exact sign test over seeds"
    assert verdict["gain_ci95"] is None


def test_rounding_of_float32_metrics_is_not_taken_for_spread() -> None:
    scratch = [float(np.float32(n) / np.float32(360)) for n in (321, 330, 335)]
    distilled = [float(np.float32(n) / np.float32(360)) for n in (322, 331, 336)]

    verdict = accuracy(distilled, scratch, [0.99])

    assert verdict["helped"] == "unclear"
    assert verdict["p_value"] == 0.25


@given(VALUES, st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_turning_the_metric_round_changes_nothing_but_retention(
    scratch: list[float], seed: int, teacher: float
) -> None:
    distilled = list(np.random.default_rng(seed).uniform(0, 1, len(scratch)))

    up = accuracy(distilled, scratch, [teacher])
    down = judge(
        [-v for v in distilled],
        [-v for v in scratch],
        [-teacher],
        metric="accuracy",
        higher_is_better=False,
    )

    for key in ("helped", "gain", "p_value", "gap_recovered", "gain_ci95", "reason"):
        assert up[key] == down[key]


@given(VALUES, st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_a_verdict_is_consistent_with_its_own_figures(
    scratch: list[float], seed: int, teacher: float
) -> None:
    distilled = list(np.random.default_rng(seed).uniform(0, 1, len(scratch)))

    verdict = accuracy(distilled, scratch, [teacher])

    p_value = verdict["p_value"]
    assert p_value is not None
    assert 0.0 <= p_value <= 1.0
    if verdict["helped"] == "yes":
        assert verdict["gain"] > 0
        assert p_value < 0.05
        assert teacher > np.mean(scratch)
    if verdict["gain_ci95"] is not None:
        assert verdict["gain_ci95"][0] <= verdict["gain"] <= verdict["gain_ci95"][1]


@given(VALUES)
def test_the_order_of_the_seeds_does_not_matter(scratch: list[float]) -> None:
    distilled = [1.0 - s / 2 for s in scratch]

    forward = accuracy(distilled, scratch, [0.9])
    backward = accuracy(distilled[::-1], scratch[::-1], [0.9])

    assert forward["helped"] == backward["helped"]
    assert forward["p_value"] == pytest.approx(backward["p_value"])


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    "step",
    [
        0.0,  # a continuous metric
        1 / 360,  # accuracy on a small test set, noise of about one row
        1 / 1000,  # noise of a few rows
    ],
)
def test_a_false_yes_is_rarer_than_alpha(seeds: int, step: float) -> None:
    rng = np.random.default_rng(seeds)
    values = rng.normal(0.9, 0.003, (3000, 2, seeds))
    if step:
        values = np.round(values / step) * step

    yes = [accuracy(list(d), list(s), [0.99])["helped"] == "yes" for d, s in values]

    assert np.mean(yes) <= 0.05


def test_a_real_gain_is_usually_found() -> None:
    rng = np.random.default_rng(0)
    scratch = rng.normal(0.90, 0.003, (500, 5))
    distilled = rng.normal(0.91, 0.003, (500, 5))

    found = [
        accuracy(list(d), list(s), [0.95])["helped"] == "yes"
        for d, s in zip(distilled, scratch, strict=True)
    ]

    assert np.mean(found) > 0.9


def test_lower_is_better_keeps_gain_positive_and_retention_below_one() -> None:
    verdict = judge(
        [0.20, 0.21, 0.20], [0.30, 0.32, 0.31], [0.10], metric="mse", higher_is_better=False
    )

    assert verdict["helped"] == "yes"
    assert verdict["gain"] == pytest.approx(0.31 - 0.61 / 3)
    assert verdict["retention"] == pytest.approx(0.10 / (0.61 / 3))


def test_retention_of_negative_scores_is_not_a_number_to_give() -> None:
    assert accuracy([-0.1, -0.2], [-0.3, -0.3], [0.5])["retention"] is None


def test_trade_is_carried_along() -> None:
    verdict = judge(
        [0.9, 0.91],
        [0.8, 0.82],
        [0.95],
        metric="accuracy",
        higher_is_better=True,
        trade=Trade(agreement=0.97, speedup=5.0, compression=12.0),
    )

    assert (verdict["agreement"], verdict["speedup"], verdict["compression"]) == (0.97, 5.0, 12.0)


@pytest.mark.parametrize(
    ("distilled", "scratch", "message"),
    [
        ([0.9, 0.9], [0.9], "cannot be paired"),  # a seed is missing
        ([], [], "no numbers"),  # nothing finished
        ([float("nan")], [0.9], "not finite"),  # a run diverged
    ],
)
def test_what_cannot_be_judged_is_refused(
    distilled: list[float], scratch: list[float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        accuracy(distilled, scratch, [0.9])


@pytest.mark.parametrize(
    ("teacher", "higher", "is_warned"),
    [
        ([0.95], True, False),  # better
        ([0.90], True, True),  # the same
        ([0.10, 0.12], True, True),  # useless
        ([0.95], False, True),  # a loss that is larger
        ([0.10], False, False),  # a loss that is smaller
    ],
)
def test_a_teacher_that_has_nothing_to_give_is_announced(
    teacher: list[float], higher: bool, is_warned: bool
) -> None:
    said = teacher_warning(teacher, [0.90, 0.90], metric="accuracy", higher_is_better=higher)

    assert (said is not None) is is_warned


def test_ratio_of_what_is_missing_is_missing() -> None:
    assert ratio(10.0, 2.0) == 5.0
    assert ratio(None, 2.0) is None
    assert ratio(1.0, None) is None
    assert ratio(1.0, 0.0) is None
