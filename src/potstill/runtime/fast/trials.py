"""What was tried, what was chosen and why: records, a table, JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import cast

from potstill.runtime.fast.bounds import Difference

EXACT = "exact"


class State(StrEnum):
    """What became of a candidate."""

    CHOSEN = "chosen"
    SLOWER = "not chosen"
    REFUSED = "refused"  # its answers are not the same
    FAILED = "failed"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate.

    Args:
        name: of the candidate; `exact` is what all others are compared with.
        state: see `State`.
        reason: one phrase.
        prepare_seconds: what it took to prepare, if it was tried (or remembered).
        step_seconds: median time of a step, if it was timed (or remembered).
        difference: how far its answers are from the exact ones.
    """

    name: str
    state: State
    reason: str = ""
    prepare_seconds: float | None = None
    step_seconds: float | None = None
    difference: Difference | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The outcome for one model.

    Args:
        role: `teacher` (its answers) or `student` (its step), with the model's name.
        key: of what was chosen for: model, shapes, machine.
        answers: of what decides whether answers are the same: weights, bounds.
        steps: how many steps were planned.
        trials: every candidate; exactly one is chosen.
        remembered: the times come from an earlier run; only the answers were checked.
    """

    role: str
    key: str
    answers: str
    steps: int
    trials: tuple[Trial, ...]
    remembered: bool = False

    @property
    def chosen(self) -> Trial:
        """The candidate that is used."""
        return next(trial for trial in self.trials if trial.state is State.CHOSEN)

    @property
    def sentence(self) -> str:
        """One line about it."""
        chosen, exact = self.chosen, self._exact
        told = f"{self.role}: {chosen.name}"
        if chosen.name != EXACT and chosen.step_seconds and exact and exact.step_seconds:
            told += f", {exact.step_seconds / chosen.step_seconds:.1f} times as fast"
        return f"{told} ({chosen.reason})" if chosen.reason else told

    def summary(self) -> dict[str, object]:
        """The outcome alone."""
        chosen, exact = self.chosen, self._exact
        speedup = None
        if exact is not None and exact.step_seconds and chosen.step_seconds:
            speedup = exact.step_seconds / chosen.step_seconds
        return {"role": self.role, "way": chosen.name, "why": chosen.reason, "speedup": speedup}

    @property
    def _exact(self) -> Trial | None:
        return next((trial for trial in self.trials if trial.name == EXACT), None)

    def rows(self) -> list[list[str]]:
        """A table for people: the heading, then one row a candidate."""
        head = [self.role, "prepare", "ms a step", "", "answers", "why"]
        return [head, *(_row(trial) for trial in self.trials)]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> "Choice":
        """What `to_json` gave."""
        trials = [_trial(each) for each in cast("Sequence[dict[str, object]]", content["trials"])]
        return cls(
            role=str(content["role"]),
            key=str(content["key"]),
            answers=str(content["answers"]),
            steps=cast("int", content["steps"]),
            trials=tuple(trials),
            remembered=bool(content["remembered"]),
        )


def table(choices: Iterable[Choice]) -> list[str]:
    """All choices as lines of text with aligned columns."""
    lines: list[str] = []
    for choice in choices:
        rows = choice.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def decided(trials: Iterable[Trial], name: str, reason: str) -> tuple[Trial, ...]:
    """The same trials, one of them chosen for a reason."""
    return tuple(
        replace(trial, state=State.CHOSEN, reason=reason) if trial.name == name else trial
        for trial in trials
    )


def _trial(content: dict[str, object]) -> Trial:
    difference = cast("dict[str, float | None] | None", content["difference"])
    return Trial(
        name=str(content["name"]),
        state=State(str(content["state"])),
        reason=str(content["reason"]),
        prepare_seconds=cast("float | None", content["prepare_seconds"]),
        step_seconds=cast("float | None", content["step_seconds"]),
        difference=None if difference is None else Difference(**difference),
    )


def _row(trial: Trial) -> list[str]:
    prepare, step = trial.prepare_seconds, trial.step_seconds
    return [
        trial.name,
        "" if prepare is None else f"{prepare:.1f} s",
        "" if step is None else f"{1000 * step:.2f}",
        str(trial.state),
        "" if trial.difference is None else str(trial.difference),
        trial.reason,
    ]
