"""Pareto fronts against the definition, and which point is taken."""

import numpy as np
import pytest

from potstill.errors import RecipeError
from potstill.search import (
    State,
    Targets,
    Trial,
    front,
    parse_limit,
    recommend,
    rivals,
    shown,
    targets_of,
)

AXIS = "latency_ms"


def a_trial(number: int, score: float, cost: float, **changes: object) -> Trial:
    figures = {AXIS: cost}
    return Trial(
        number=number, state=State.DONE, values={}, figures=figures, score=score, **changes
    )


def is_beaten(one: Trial, others: list[Trial], *, higher: bool) -> bool:
    """By the definition: somebody at least as good and as cheap, and better in one of the two."""
    sign = 1 if higher else -1
    return any(
        sign * o.score >= sign * one.score
        and o.figures[AXIS] <= one.figures[AXIS]
        and (o.score != one.score or o.figures[AXIS] != one.figures[AXIS])
        for o in others
    )


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nobody_beats(seed: int, higher: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 12, size=(30, 2)) / 10 + 0.1  # with ties
    trials = [a_trial(i, float(s), float(c)) for i, (s, c) in enumerate(points)]

    found = front(trials, axis=AXIS, higher_is_better=higher)

    expected = {
        (t.score, t.figures[AXIS]) for t in trials if not is_beaten(t, trials, higher=higher)
    }
    assert {(t.score, t.figures[AXIS]) for t in found} == expected
    assert len(found) == len(expected), "of equals, one"
    assert [t.figures[AXIS] for t in found] == sorted(t.figures[AXIS] for t in found)


def test_with_a_limit_the_best_that_keeps_it_is_taken_and_the_cheaper_one_named() -> None:
    found = [a_trial(0, 0.7, 1.0), a_trial(1, 0.8, 2.0), a_trial(2, 0.9, 4.0)]

    best = recommend(found, targets=Targets(limits={AXIS: 3.0}), metric="accuracy")

    assert best.trial.number == 1
    assert "latency ≤ 3 ms" in best.why
    assert "trial 0, takes 1 ms instead of 2 ms and reaches 0.7000" in best.why


def test_without_a_limit_it_is_the_knee() -> None:
    costs, scores = (1.0, 2.0, 4.0, 8.0), (0.5, 0.85, 0.9, 0.91)
    found = [a_trial(i, scores[i], costs[i]) for i in range(4)]

    assert recommend(found, targets=Targets(limits={}), metric="accuracy").trial.number == 1


def test_if_nothing_keeps_the_limit_any_more_the_nearest_is_taken_and_it_is_said() -> None:
    found = [a_trial(0, 0.7, 3.1), a_trial(1, 0.8, 5.0)]

    best = recommend(found, targets=Targets(limits={AXIS: 3.0}), metric="accuracy")

    assert best.trial.number == 0
    assert "none on the front keeps the limits" in best.why


def test_rivals_cost_no_more_and_were_better_at_the_same_epoch() -> None:
    trials = [
        a_trial(0, 0.9, 1.0, curve={1: 0.5, 2: 0.9}),
        a_trial(1, 0.9, 9.0, curve={1: 0.9, 2: 0.9}),  # costs more
        a_trial(2, 0.9, 1.0, curve={2: 0.9}),  # not validated then
        a_trial(3, 0.9, 1.0, curve={1: 0.3, 2: 0.9}),  # was worse
    ]

    found = rivals(trials, epoch=1, value=0.4, cost=2.0, axis=AXIS, higher=True)

    assert [t.number for t in found] == [0]


@pytest.mark.parametrize(
    ("quantity", "text", "value"),
    [
        ("latency_ms", "5ms", 5.0),
        ("latency_ms", "50 us", 0.05),
        ("latency_ms", "0.1s", 100.0),
        ("bytes", "1MB", 1e6),
        ("bytes", "64KiB", 65536.0),
        ("parameters", "200k", 2e5),
        ("flops", "1e6", 1e6),
        ("memory", "10MB", 1e7),
    ],
)
def test_limits_have_units(quantity: str, text: str, value: float) -> None:
    assert parse_limit(quantity, text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["fast", "5", "5MB", "-1ms", "0ms", ""])
def test_a_limit_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RecipeError, match="--latency 5ms"):
        parse_limit("latency_ms", text)


def test_excess_is_a_share_of_the_limit_and_the_first_limit_is_the_axis() -> None:
    targets = targets_of({"bytes": "2kB", "latency_ms": None, "parameters": 100})

    assert targets.axis == "bytes"
    assert targets.excess({"bytes": 3000.0, "parameters": 50.0}) == {
        "bytes": pytest.approx(0.5),
        "parameters": pytest.approx(-0.5),
    }
    assert targets.missed({"bytes": 3000.0, "parameters": 50.0}) == "size 3 kB > 2 kB"
    assert shown("parameters", None) == "–"
