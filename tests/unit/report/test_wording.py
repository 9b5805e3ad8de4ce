"""Numbers in words."""

from collections.abc import Callable

import pytest

from potstill.report import wording
from potstill.report.records import Summary, Verdict


@pytest.mark.parametrize(
    ("show", "value", "expected"),
    [
        (wording.size, 338_472, "338 kB"),
        (wording.size, 2_400_000, "2.40 MB"),
        (wording.size, 12, "12 bytes"),
        (wording.count, 9_870, "9,870"),
        (wording.count, 84_618, "84.6 k"),
        (wording.count, 2_395_210, "2.40 M"),
        (wording.milliseconds, 0.0312, "31.2 µs"),
        (wording.milliseconds, 12.0, "12.0 ms"),
        (wording.seconds, 0.25, "250 ms"),
        (wording.seconds, 59.96, "60.0 s"),
        (wording.seconds, 185.0, "3 min 05 s"),
        (wording.seconds, 7620.0, "2 h 07 min"),
        (wording.energy, 0.08, "80.0 mWh"),
        (wording.energy, 12.34, "12.3 Wh"),
        (wording.times, 26.94, "26.9×"),
        (wording.p_value, 0.0004, "p < 0.001"),
        (wording.p_value, 0.0182, "p = 0.018"),
        (wording.plain, 0.027, "0.02700"),
        (wording.plain, 1234.5678, "1,235"),
        (wording.plain, 0.0, "0.0000"),
        (wording.plain, 3.2e-7, "3.2e-07"),
    ],
)
def test_units(show: Callable[[float | None], str], value: float, expected: str) -> None:
    assert show(value) == expected


@pytest.mark.parametrize(
    "show", [wording.size, wording.count, wording.milliseconds, wording.seconds, wording.energy,
             wording.times, wording.p_value, wording.share, wording.grams]
)  # fmt: skip
def test_what_is_not_known_is_a_dash(show: Callable[[float | None], str]) -> None:
    assert show(None) == wording.NONE


@pytest.mark.parametrize(
    ("value", "metric", "expected"),
    [
        (0.00842, "accuracy", "+0.84"),  # percentage points
        (-0.0297, "f1_macro", "−2.97"),
        (0.00001, "accuracy", "0.00"),  # no sign on nothing
        (-0.0123, "rmse", "−0.0123"),
        (None, "rmse", "–"),
        (float("nan"), "rmse", "–"),
    ],
)
def test_differences_carry_their_sign(value: float | None, metric: str, expected: str) -> None:
    assert wording.signed(value, metric=metric) == expected


def test_a_share_reads_in_per_cent_and_an_error_in_its_own_unit() -> None:
    assert wording.score(0.9731, metric="balanced_accuracy") == "97.31%"
    assert wording.score(0.9731, metric="rmse") == "0.9731"
    summary = Summary(mean=0.9, ci95=(0.89, 0.91))
    assert wording.spread(summary, metric="accuracy") == "± 1.00"
    assert wording.spread(Summary(mean=0.9), metric="accuracy") == ""


def test_marks_of_an_axis_have_no_trailing_zeros() -> None:
    shown = ["1.00 MB", "300 kB", "0.100 ms", "2.50 MB", "10.0 µs", "100 bytes"]

    assert [wording.without_zeros(s) for s in shown] == [
        "1 MB", "300 kB", "0.1 ms", "2.5 MB", "10 µs", "100 bytes",
    ]  # fmt: skip


def test_the_headline_leaves_out_what_the_page_shows_elsewhere() -> None:
    sentence = "Distillation helped: 0.95 against 0.93 (gain +0.02, 4 seeds)."

    assert wording.without_details(sentence) == "Distillation helped: 0.95 against 0.93."
    assert wording.without_details("It helped (a lot) indeed.") == "It helped (a lot) indeed."


def test_a_verdict_without_a_sentence_gets_one() -> None:
    verdict = Verdict(helped="yes", gain=0.0123)

    said = wording.headline(verdict, metric="accuracy")

    assert said == "Distillation helped: +1.23 points against the same student alone."


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("accuracy", "Accuracy"), ("f1_macro", "Macro F1"), ("rmse", "Root mean squared error"),
     ("top5_accuracy", "Top-5 accuracy"), ("r2", "R²"), ("label_f1", "Label F1")],
)  # fmt: skip
def test_metric_names(metric: str, expected: str) -> None:
    assert wording.metric_name(metric) == expected
