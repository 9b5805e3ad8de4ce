"""Trials, one after the other: asked for, weighed, perhaps trained, told."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

from potstill.errors import Interrupted, PotstillError, RecipeError
from potstill.pipeline.candidates import Candidate, Figures, Make, Scales
from potstill.pipeline.trialling import Lane
from potstill.protocols import Task
from potstill.runtime.progress import Progress, showing
from potstill.search import (
    FAMILY,
    Asked,
    State,
    Study,
    Targets,
    Trial,
    Values,
    count,
    rivals,
    shown,
)

TRAINED = (State.DONE, State.PRUNED)
RIVALS = 3
"""A trial is given up once so many that cost no more were better at the same epoch."""

REFUSALS = 20
"""For each trial, so many shapes may be refused before the search says that it finds no more."""


@final
@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is refused, and what is never given up.

    Args:
        targets: limits, and the axis of cost.
        task: how students are scored.
        own: values of the recipe as it stands, which is trained to its end beyond all limits.
        hopeless: families whose smallest student misses a limit, with what that one costs.
    """

    targets: Targets
    task: Task
    own: tuple[Values, ...] = ()
    hopeless: Mapping[str, Figures] = field(default_factory=dict)

    def is_own(self, values: Values) -> bool:
        """Whether values are the recipe as it stands."""
        return dict(values) in [dict(each) for each in self.own]


@final
@dataclass(frozen=True, kw_only=True)
class Trying:
    """Works on a study until there are enough trials.

    Args:
        study: asked and told.
        make: a candidate from values.
        scales: what candidates cost.
        rules: see `Rules`.
        progress: told of what happens.
    """

    study: Study
    make: Make
    scales: Scales
    rules: Rules
    progress: Progress

    def work(self, lane: Lane, *, trials: int, minutes: float | None) -> None:
        """Trials until there are so many of them, by this process and others on the same study."""
        deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
        trained = count(self.study.trials(), *TRAINED)
        with showing(self.progress, "search", trials, trained) as advance:
            while self._is_worth_more(trials) and time.monotonic() < deadline:
                self._one(lane)
                advance(count(self.study.trials(), *TRAINED))

    def _is_worth_more(self, trials_wanted: int) -> bool:
        trials = self.study.trials()
        under_way = count(trials, *TRAINED, State.RUNNING)
        if count(trials, State.FAILED) >= 5 + trials_wanted:
            raise RecipeError(f"The trials of this search fail: {trials[-1].reason or 'see above'}")
        if count(trials, State.REFUSED) >= REFUSALS * trials_wanted:
            self.progress.note(
                f"{count(trials, State.REFUSED)} shapes missed the limits; no more are drawn"
            )
            return False
        return under_way < trials_wanted

    def _one(self, lane: Lane) -> None:
        """Ask, weigh, perhaps train, tell."""
        asked = self.study.ask()
        trial = Trial(number=asked.number, state=State.RUNNING, values=asked.values)
        try:
            trial = self._weighed(asked, trial, lane)
        except Interrupted:
            raise  # its values are asked again by the next process
        except (PotstillError, RuntimeError, ValueError) as error:  # one student, not the search
            trial = replace(trial, state=State.FAILED, reason=" ".join(str(error).split())[:500])
            self.study.tell(asked, trial, cost=None, excess={})
        if trial.state is not State.REFUSED:
            self.progress.note(said_of(trial, self.rules.task.primary, self.rules.targets.axis))

    def _weighed(self, asked: Asked, trial: Trial, lane: Lane) -> Trial:
        family = str(asked.values.get(FAMILY, ""))
        if family in self.rules.hopeless:
            return self._refused(asked, trial, family)
        candidate = self.make(asked.values)
        figures = self.scales.figures(candidate.model, self.rules.targets)
        trial = replace(
            trial,
            figures=figures,
            description=candidate.model.description,
            objective=repr(candidate.objective),
            recipe=candidate.recipe,
        )
        excess, cost = self.rules.targets.excess(figures), trial.cost(self.rules.targets.axis)
        is_known = cost is not None and self.rules.is_own(asked.values)
        if self.rules.targets.worst(figures) > 0 and not is_known:
            trial = replace(trial, state=State.REFUSED, reason=self.rules.targets.missed(figures))
        else:
            trial = self._trained(asked, trial, candidate, lane)
        self.study.tell(asked, trial, cost=cost, excess=excess)
        return trial

    def _refused(self, asked: Asked, trial: Trial, family: str) -> Trial:
        """Of a family whose smallest student is too much already."""
        figures = self.rules.hopeless[family]
        missed = self.rules.targets.missed(figures)
        trial = replace(
            trial,
            state=State.REFUSED,
            figures=figures,
            description=family,
            reason=f"even the smallest of its family has {missed}",
        )
        self.study.tell(asked, trial, cost=None, excess=self.rules.targets.excess(figures))
        return trial

    def _trained(self, asked: Asked, trial: Trial, candidate: Candidate, lane: Lane) -> Trial:
        name = hashlib.sha256(repr(sorted(asked.values.items())).encode()).hexdigest()[:12]
        found = lane.train(name, candidate, judge=self._judge(asked, trial))
        return replace(
            trial,
            state=found.state,
            score=found.score,
            curve=found.curve,
            seconds=round(found.seconds, 3),
            reason=found.reason,
            teacher_calls=found.teacher_calls,
            stored_answers=found.stored_answers,
        )

    def _judge(self, asked: Asked, trial: Trial) -> Callable[[int, float], str]:
        """Gives a trial up that cheaper ones have left behind."""
        axis, higher = self.rules.targets.axis, self.rules.task.higher_is_better
        cost = trial.cost(axis)
        if cost is None or self.rules.is_own(trial.values):
            return lambda _epoch, _value: ""  # to compare with, to its end

        def judge(epoch: int, value: float) -> str:
            self.study.beat(asked)
            better = rivals(
                self.study.trials(), epoch=epoch, value=value, cost=cost, axis=axis, higher=higher
            )
            if len(better) < RIVALS:
                return ""
            return f"after epoch {epoch}, {len(better)} trials that cost no more were better"

        return judge


def said_of(trial: Trial, primary: str, axis: str) -> str:
    """What came of a trial, in a line."""
    what = f"trial {trial.number}: {trial.description}"
    cost = shown(axis, trial.cost(axis))
    match trial.state:
        case State.DONE:
            assert trial.score is not None, "it is done"
            return f"{what}: {primary} {trial.score:.4f}, {cost}"
        case State.PRUNED:
            return f"{what}, {cost}: given up, {trial.reason}"
        case _:
            return f"{what}: failed, {trial.reason}"
