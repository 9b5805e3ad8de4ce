"""Choosing among ways to do the same work: by measured time, checked answers and what it costs.

The most promising candidate is prepared first; another one only if what may still be hoped from it
exceeds its cost. So a short training tries nothing that takes long to prepare, and a machine whose
times are remembered prepares the best one alone.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar, final

from potstill.runtime.fast.bounds import Bounds, Difference
from potstill.runtime.fast.memory import Memory
from potstill.runtime.fast.quiet import quietly
from potstill.runtime.fast.trials import EXACT, Choice, State, Trial, decided

T = TypeVar("T", covariant=True)

FEWEST_STEPS = 100  # a shorter work is done before anything could be measured
MARGIN = 3.0  # how many times its cost a candidate must promise to save before it is tried
WORTHWHILE = 0.97  # of the exact time: what is not at least this much faster changes nothing
CLOSE = 1.25  # of the fastest time: candidates within it are timed again, in turns


@dataclass(frozen=True)
class Prior:
    """What to expect of a candidate that was never measured here.

    Args:
        seconds: to prepare it.
        speedup: how many times as fast as the exact way it may well be.
    """

    seconds: float
    speedup: float


@dataclass(frozen=True)
class Ready(Generic[T]):
    """A way that can be used.

    Args:
        value: what the caller wants of it.
        run: does one step, on the batch of this number (any whole number).
        difference: compares its answers with the exact ones.
    """

    value: T
    run: Callable[[int], object]
    difference: Callable[[], Difference]


class Candidate(Protocol[T]):
    """A way that may be prepared."""

    @property
    def name(self) -> str:
        """Short, for tables and files."""
        ...

    @property
    def prior(self) -> Prior:
        """What to expect."""
        ...

    def prepare(self) -> Ready[T]:
        """Make it ready; raises whatever is in the way."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done, as often as planned.

    Args:
        role: for people, for example `teacher resnet32x4`.
        key: names the model, its shapes and the machine.
        answers: names the weights and the bounds.
        steps: how often.
    """

    role: str
    key: str
    answers: str
    steps: int


def choose(
    work: Work,
    exact: Ready[T],
    candidates: Sequence[Candidate[T]],
    *,
    bounds: Bounds,
    memory: Memory | None = None,
    unfit: Sequence[Trial] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Choice, Ready[T]]:
    """The fastest way whose answers are within the bounds and whose cost is earned back.

    Args:
        work: what is planned.
        exact: the way that all others are compared with.
        candidates: the others; none of their failures is an error.
        bounds: what counts as the same answers.
        memory: of earlier runs.
        unfit: what was ruled out before, for the table.
        clock: seconds.
    """
    search = _Search(work, exact, bounds, memory or Memory(), clock)
    return search.run(candidates, unfit)


@final
class _Search(Generic[T]):
    """One run of `choose`: what was measured so far, and the best."""

    def __init__(
        self,
        work: Work,
        exact: Ready[T],
        bounds: Bounds,
        memory: Memory,
        clock: Callable[[], float],
    ) -> None:
        self._work, self._bounds, self._memory, self._clock = work, bounds, memory, clock
        self._known = memory.recall(work.key, work.answers)
        self._ready: dict[str, Ready[T]] = {EXACT: exact}
        self._trials: dict[str, Trial] = {}

    def run(
        self, candidates: Sequence[Candidate[T]], unfit: Sequence[Trial]
    ) -> tuple[Choice, Ready[T]]:
        if self._work.steps < FEWEST_STEPS:
            short = f"{self._work.steps} steps are too few to measure"
            self._trials[EXACT] = Trial(name=EXACT, state=State.CHOSEN, reason=short)
            return self._choice(EXACT, remembered=False)  # nothing was learnt: nothing is kept
        self._time_exact()
        fresh = 0
        for candidate in sorted(candidates, key=self._hope):
            known = self._known.get(candidate.name)
            reason = self._hopeless(candidate, known)
            if reason is not None:
                self._trials[candidate.name] = known_or_not(candidate.name, known, reason)
                continue
            fresh += known is None
            self._trials[candidate.name] = self._try(candidate)
        if fresh:
            self._time_again()
        self._trials.update({trial.name: trial for trial in unfit})
        name, why = self._best()
        self._trials = {t.name: t for t in decided(self._trials.values(), name, why)}
        return self._choice(name, remembered=bool(self._known) and not fresh)

    def _choice(self, name: str, *, remembered: bool) -> tuple[Choice, Ready[T]]:
        choice = Choice(
            role=self._work.role,
            key=self._work.key,
            answers=self._work.answers,
            steps=self._work.steps,
            trials=tuple(self._trials.values()),
            remembered=remembered,
        )
        if not remembered and self._work.steps >= FEWEST_STEPS:
            self._memory.keep(choice)
        return choice, self._ready[name]

    # What may be hoped for

    def _time_exact(self) -> None:
        known = self._known.get(EXACT)
        if known is None or known.step_seconds is None:
            self._ready[EXACT].run(0)
            known = Trial(name=EXACT, state=State.SLOWER, step_seconds=self._timed(EXACT, 3))
        self._trials[EXACT] = replace(known, state=State.SLOWER, reason="", prepare_seconds=0.0)

    def _expected(self, candidate: Candidate[T]) -> tuple[float, float]:
        """Seconds to prepare, seconds a step."""
        known, prior = self._known.get(candidate.name), candidate.prior
        prepare = known.prepare_seconds if known is not None else None
        step = known.step_seconds if known is not None else None
        return (
            prior.seconds if prepare is None else prepare,
            self._seconds(EXACT) / prior.speedup if step is None else step,
        )

    def _hope(self, candidate: Candidate[T]) -> float:
        """Seconds that the whole work would take; the least is tried first."""
        prepare, step = self._expected(candidate)
        return prepare + step * self._work.steps

    def _hopeless(self, candidate: Candidate[T], known: Trial | None) -> str | None:
        """Why a candidate is not worth preparing, or `None`."""
        if known is not None and known.state in {State.REFUSED, State.FAILED}:
            return f"{known.reason} (remembered)"
        prepare, step = self._expected(candidate)
        saved = (self._fastest() - step) * self._work.steps
        margin = 1.0 if known is not None else MARGIN
        if saved > margin * prepare and step < WORTHWHILE * self._fastest():
            return None
        if saved <= 0:
            return "no faster by what is known of it"
        return f"may save {_time(saved)} and costs about {_time(prepare)} to prepare"

    def _fastest(self) -> float:
        return min(self._seconds(name) for name in self._ready)

    def _seconds(self, name: str) -> float:
        seconds = self._trials[name].step_seconds
        assert seconds is not None, "what is ready was timed"
        return seconds

    # Trying

    def _try(self, candidate: Candidate[T]) -> Trial:
        started = self._clock()
        try:
            with quietly():
                ready = candidate.prepare()
                ready.run(0)
                took = self._clock() - started
                difference = ready.difference()
        except Exception as error:  # noqa: BLE001  a way that fails is a line in the table
            took = self._clock() - started
            return Trial(
                name=candidate.name, state=State.FAILED, reason=_first_line(error),
                prepare_seconds=took,
            )  # fmt: skip
        known = self._known.get(candidate.name)
        trial = Trial(
            name=candidate.name,
            state=State.SLOWER,
            prepare_seconds=took,
            step_seconds=None if known is None else known.step_seconds,
            difference=difference,
        )
        broken = difference.broken(self._bounds)
        if broken is not None:
            return replace(trial, state=State.REFUSED, reason=broken)
        self._ready[candidate.name] = ready
        if trial.step_seconds is None:
            trial = replace(trial, step_seconds=self._timed(candidate.name, 3))
        return trial

    def _timed(self, name: str, rounds: int) -> float:
        return statistics.median(self._once(name, number) for number in range(rounds))

    def _once(self, name: str, number: int) -> float:
        started = self._clock()
        self._ready[name].run(number)
        return self._clock() - started

    def _time_again(self) -> None:
        """The fastest few and the exact way, in turns, so that a busy moment disturbs all alike."""
        limit = CLOSE * self._fastest()
        names = [EXACT, *(n for n in self._ready if n != EXACT and self._seconds(n) <= limit)]
        rounds = int(min(9, max(3, 0.02 * self._work.steps / len(names))))
        times: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names:
                times[name].append(self._once(name, number))
        for name, each in times.items():
            self._trials[name] = replace(self._trials[name], step_seconds=statistics.median(each))

    def _best(self) -> tuple[str, str]:
        """What saves most after its cost, and why."""
        best, gain = EXACT, 0.0
        for name in self._ready:
            saved = self._seconds(EXACT) - self._seconds(name)
            net = saved * self._work.steps - (self._trials[name].prepare_seconds or 0.0)
            if net > gain and self._seconds(name) < WORTHWHILE * self._seconds(EXACT):
                best, gain = name, net
        if best == EXACT:
            return best, "nothing else pays"
        return best, f"saves {_time(gain)} over {self._work.steps:,} steps"


def known_or_not(name: str, known: Trial | None, reason: str) -> Trial:
    """The line of a candidate that is not prepared this time."""
    if known is None:
        return Trial(name=name, state=State.NOT_TRIED, reason=reason)
    state = known.state if known.state in {State.REFUSED, State.FAILED} else State.NOT_TRIED
    return replace(known, state=state, reason=reason)


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}…"
