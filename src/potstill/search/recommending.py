"""Which point of a Pareto front to take, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import final

from potstill.search.targets import WORDS, Targets, shown
from potstill.search.trials import Trial


@final
@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The point to take.

    Args:
        trial: of the front.
        why: in a sentence with numbers.
    """

    trial: Trial
    why: str


def recommend(found: Sequence[Trial], *, targets: Targets, metric: str) -> Recommendation:
    """The best point that keeps the limits; without limits, the knee of the front.

    The knee is the point farthest from the straight line between the ends of the front, with both
    axes scaled to [0, 1] and the cost logarithmic (Das 1999, DOI 10.1007/s001580050111, for two
    objectives).

    Args:
        found: the front, cheapest first; at least one.
        targets: limits, and the axis of cost.
        metric: name of the score; of the front, the dearest point has the best one.
    """
    kept = [t for t in found if targets.worst(t.figures) <= 0]
    if targets.limits and kept:
        best = kept[-1]
        why = f"the best validation {metric} ({best.score:.4f}) of all that keep {targets}"
        return Recommendation(trial=best, why=f"{why}{_cheaper(kept, best, targets)}.")
    if targets.limits:
        nearest = min(found, key=lambda t: targets.worst(t.figures))
        missed = targets.missed(nearest.figures)
        why = f"timed again, none on the front keeps the limits; this one is nearest ({missed})"
        return Recommendation(trial=nearest, why=f"{why}.")
    if len(found) < 3:
        best = found[-1]
        return Recommendation(trial=best, why=f"the best validation {metric} ({best.score:.4f}).")
    knee = max(found, key=lambda t: _height(t, found, targets.axis))
    ends = f"{shown(targets.axis, found[0].cost(targets.axis))} to " + shown(
        targets.axis, found[-1].cost(targets.axis)
    )
    why = (
        f"the knee of the front ({WORDS[targets.axis]} {ends}): beyond it, more "
        f"{WORDS[targets.axis]} buys less {metric}"
    )
    return Recommendation(trial=knee, why=f"{why}{_cheaper(found, knee, targets)}.")


def _cheaper(found: Sequence[Trial], best: Trial, targets: Targets) -> str:
    """What the next cheaper point of the front would save and lose."""
    at = found.index(best)
    if at == 0:
        return ""
    other, axis = found[at - 1], targets.axis
    assert other.score is not None, "it is on the front"
    assert best.score is not None, "it is on the front"
    return (
        f"; the next cheaper one, trial {other.number}, takes {shown(axis, other.cost(axis))} "
        f"instead of {shown(axis, best.cost(axis))} and reaches {other.score:.4f}"
    )


def _height(trial: Trial, found: Sequence[Trial], axis: str) -> float:
    """How far a point lies above the line between the ends of the front."""
    first, last = found[0], found[-1]
    costs = [max(t.cost(axis) or 0.0, 1e-12) for t in (first, trial, last)]
    across = (log(costs[1]) - log(costs[0])) / max(log(costs[2]) - log(costs[0]), 1e-12)
    scores = [t.score or 0.0 for t in (first, trial, last)]
    up = (scores[1] - scores[0]) / ((scores[2] - scores[0]) or 1e-12)
    return up - across
