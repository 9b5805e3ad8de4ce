"""What is known of the trials of a search, and which of them are on the front."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import final

from potstill.search.space import Value


class State(StrEnum):
    """How a trial ended."""

    DONE = "done"
    PRUNED = "pruned"  # cheaper trials were better at the same epoch
    REFUSED = "refused"  # its shape misses a limit, so it was not trained
    FAILED = "failed"
    RUNNING = "running"


@final
@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate.

    Args:
        number: in the study.
        state: see `State`.
        values: what was chosen, by knob.
        figures: what the student costs, by quantity; `None` for what was not measured.
        score: the primary metric on validation data.
        curve: the metric of each epoch that was validated.
        description: of the student, one line.
        objective: what it minimised.
        recipe: YAML that makes it.
        reason: why it was pruned, refused or failed.
        seconds: it took.
        teacher_calls: samples that a live teacher was asked about while it trained.
        stored_answers: samples that were looked up instead.
    """

    number: int
    state: State
    values: Mapping[str, Value]
    figures: Mapping[str, float | None] = field(default_factory=dict)
    score: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    description: str = ""
    objective: str = ""
    recipe: str = ""
    reason: str = ""
    seconds: float = 0.0
    teacher_calls: int = 0
    stored_answers: int = 0

    def cost(self, axis: str) -> float | None:
        """What it costs of one quantity."""
        return self.figures.get(axis)

    @property
    def student(self) -> str:
        """What it is, without what goes in and out."""
        said = self.description
        return said.partition("), ")[0] + ")" if "), " in said else said.partition(", ")[0]

    def with_figures(self, figures: Mapping[str, float | None]) -> "Trial":
        """The same trial, measured again."""
        return replace(self, figures={**self.figures, **figures})

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {**asdict(self), "state": self.state.value}


def front(trials: Sequence[Trial], *, axis: str, higher_is_better: bool) -> list[Trial]:
    """The trials that no other one beats, cheapest first.

    A trial beats another if it is at least as good and at least as cheap, and one of them strictly.
    """
    known = [t for t in trials if t.score is not None and t.cost(axis) is not None]
    sign = 1.0 if higher_is_better else -1.0
    known.sort(key=lambda t: (t.cost(axis) or 0.0, -sign * (t.score or 0.0), t.number))
    kept: list[Trial] = []
    for trial in known:
        assert trial.score is not None, "they are known"
        if not kept or sign * trial.score > sign * (kept[-1].score or 0.0):
            kept.append(trial)
    return kept


def rivals(
    trials: Sequence[Trial], *, epoch: int, value: float, cost: float, axis: str, higher: bool
) -> list[Trial]:
    """The finished trials that cost no more and were better at the same epoch."""
    sign = 1.0 if higher else -1.0
    return [
        t
        for t in trials
        if t.state is State.DONE
        and (t.cost(axis) or 0.0) <= cost
        and epoch in t.curve
        and sign * t.curve[epoch] > sign * value
    ]
