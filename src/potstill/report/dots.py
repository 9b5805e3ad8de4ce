"""Rows of dots on one shared scale, drawn by the page without scripts: scores, or gains."""

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.report import wording
from potstill.report.records import Results


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A value on a scale; places are per cent of its width."""

    key: str
    name: str
    said: str
    small: str
    at: float
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The ends of a scale in the units of the values."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float]) -> "Scale":
        """The range of the values with room on both sides."""
        room = (max(values) - min(values)) * 0.08 or abs(values[0]) * 0.05 or 1.0
        return cls(low=min(values) - room, high=max(values) + room)

    def place(self, value: float) -> float:
        """Per cent from the left end."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def score_dots(results: Results) -> tuple[Dot, ...]:
    """The primary metric of every role, with its interval and a tick for each seed."""
    scored = [(role, results.score(role)) for role in results.roles()]
    known = [(role, summary, summary.mean) for role, summary in scored if summary.mean is not None]
    if len(known) < 2:
        return ()
    every = [v for _, s, mean in known for v in (mean, *s.known(), *(s.ci95 or ()))]
    scale, metric = Scale.around(every), results.primary
    return tuple(
        Dot(
            key=role,
            name=wording.role_name(role),
            said=wording.score(mean, metric=metric),
            small=wording.spread(summary, metric=metric),
            at=scale.place(mean),
            low=scale.place(summary.ci95[0]) if summary.ci95 else None,
            high=scale.place(summary.ci95[1]) if summary.ci95 else None,
            seeds=tuple(scale.place(value) for value in summary.known()),
        )
        for role, summary, mean in known
    )
