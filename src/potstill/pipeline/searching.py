"""The stage of a search: the teacher once, then trials, then the front and what to take of it.

Test data are never asked about: shapes are timed on training samples, students are scored on
validation data, and what holds on test data is said by the run of the recommended recipe.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from potstill.errors import ExportError, Interrupted, PotstillError, RecipeError, StorageError
from potstill.pipeline.calibrating import calibrated
from potstill.pipeline.candidates import ONNX, RUNTIMES, Candidate, Make, Scales
from potstill.pipeline.experiment import Experiment
from potstill.pipeline.labelling import Source, source_of_answers
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.teaching import Ready, get_teacher
from potstill.pipeline.trialling import Lane
from potstill.pipeline.workshop import Silent, Workshop
from potstill.search import (
    FAMILY,
    Asked,
    Space,
    State,
    Study,
    Targets,
    Trial,
    Values,
    count,
    rivals,
    shown,
)
from potstill.search.targets import BASE, MEMORY, OPTIONS
from potstill.train.progress import Progress

FOLDER = "search"
TRAINED = (State.DONE, State.PRUNED)
RIVALS = 3
"""A trial is given up once so many that cost no more were better at the same epoch."""

REFUSALS = 20
"""For each trial, so many shapes may be refused before the search says that it finds no more."""

_WAIT_SECONDS = 1.0


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and on what.

    Args:
        trials: students that are trained, those given up early among them.
        minutes: no trial begins later than that; `None` for no limit.
        runtime: `onnxruntime` or `torch`.
        threads: of the runtime.
        storage: an Optuna storage URL; SQLite in the run folder if left out.
        seed: of what is drawn, and of the students.
    """

    trials: int = 30
    minutes: float | None = None
    runtime: str = ONNX
    threads: int = 1
    storage: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise RecipeError(
                f"There is no runtime `{self.runtime}` to search for; choose "
                f"{' or '.join(RUNTIMES)}."
            )
        if self.trials < 1 or self.threads < 1 or (self.minutes is not None and self.minutes <= 0):
            raise RecipeError(
                "A search needs at least one trial, one thread and some time (`--trials`, "
                "`--threads`, `--minutes`)."
            )


@final
class Search:
    """A search in a run folder; called again, it goes on.

    Args:
        experiment: teacher, task, data and storing are its; student, objective and learning change.
        make: a candidate from values.
        space: what can be chosen.
        targets: what a student may cost.
        first: values that are tried first: the recipe's own student.
        settings: see `Settings`.
        folder: the run folder.
        progress: told of what happens.
    """

    def __init__(
        self,
        experiment: Experiment,
        make: Make,
        space: Space,
        *,
        targets: Targets,
        first: Sequence[Values] = (),
        settings: Settings | None = None,
        folder: Path,
        progress: Progress | None = None,
    ) -> None:
        self.experiment, self.make, self.space = experiment, make, space
        self.targets, self.settings = targets, settings or Settings()
        self.first = first
        self.folder, self.progress = folder, progress or Silent()
        self.scales = Scales(
            data=experiment.data,
            folder=folder / FOLDER / "shapes",
            runtime=self.settings.runtime,
            threads=self.settings.threads,
            memory=MEMORY in (*targets.limits, targets.axis),
        )
        self.study = self._open()
        self.ready: Ready | None = None
        self.source: Source | None = None

    def words(self) -> list[str]:
        """Options of `potstill search` that say the same targets and settings."""
        s = self.settings
        words = [f"{OPTIONS[q]}={limit!r}{BASE[q]}" for q, limit in self.targets.limits.items()]
        words += [f"--trials={s.trials}", f"--threads={s.threads}", f"--runtime={s.runtime}"]
        words += [f"--seed={s.seed}"]
        words += [] if s.minutes is None else [f"--minutes={s.minutes}"]
        return words + ([] if s.storage is None else [f"--storage={s.storage}"])

    def _open(self) -> Study:
        """The study; a database in the run folder if no other is named."""
        here = self.folder / FOLDER
        here.mkdir(parents=True, exist_ok=True)
        task, s = self.experiment.task, self.settings
        key = hashlib.sha256(
            json.dumps(
                [
                    self.experiment.recipe or self.experiment.name,
                    str(self.space),
                    str(self.targets),
                    s.runtime,
                    s.threads,
                    s.seed,
                ]
            ).encode()
        ).hexdigest()
        return Study(
            self.space,
            storage=s.storage or f"sqlite:///{(here / 'study.db').absolute()}",
            name=self.experiment.name,
            higher_is_better=task.higher_is_better,
            key=key,
            seed=s.seed,
            startup=max(4, min(10, s.trials // 3)),
        )

    def is_own(self, values: Values) -> bool:
        """Whether values are the recipe as it stands, which is trained even beyond the limits."""
        return dict(values) in [dict(each) for each in self.first]

    def prepare(self) -> None:
        """Whether the target can be met, then the teacher and its store; what is done is kept.

        Raises:
            RecipeError: no student meets the target; says which is the nearest.
        """
        self._check_targets()
        ledger = self._alone()
        try:
            shop = Workshop(self.experiment, self.folder, ledger=ledger, progress=self.progress)
            self.ready = calibrated(shop, get_teacher(shop))
            self.ready.teacher.to(shop.runtime.device)
            self.source = source_of_answers(shop, self.ready.teacher)
            lost = self.study.take_up()
            if lost:
                numbers = ", ".join(map(str, lost))
                self.progress.note(f"taken up again, their process has ended: trial {numbers}")
            if not self.study.trials():
                for values in self.first:
                    self.study.enqueue(values)
        finally:
            ledger.close()

    def _alone(self) -> Ledger:
        """The run folder's ledger, once nobody else has it."""
        said = False
        while True:
            try:
                return Ledger(self.folder)
            except StorageError as error:
                if "Another Potstill process" not in str(error):
                    raise
                if not said:
                    self.progress.note("waiting: another process is working on the teacher")
                    said = True
                time.sleep(_WAIT_SECONDS)

    def _check_targets(self) -> None:
        """Say before anything is trained that no student meets the target."""
        if not self.targets.limits or count(self.study.trials(), *TRAINED):
            return
        branches = next(c.branches for c in self.space.choices if c.name == FAMILY)
        nearest: tuple[float, str, Mapping[str, float | None]] | None = None
        for branch in branches:
            candidate = self.make(self.space.smallest(FAMILY, branch))
            try:
                figures = self.scales.figures(candidate.model, self.targets)
            except (ExportError, PotstillError) as error:
                self.progress.note(f"{branch} is left out where it is smallest: {error}")
                continue
            excess = self.targets.worst(figures)
            if excess <= 0:
                return
            if nearest is None or excess < nearest[0]:
                nearest = (excess, candidate.model.description, figures)
        if nearest is None:
            raise RecipeError("None of the families of students can be built for these data.")
        raise RecipeError(
            f"No student of {', '.join(branches)} meets the target ({self.targets}): the nearest "
            f"is {nearest[1]}, with {self.targets.missed(nearest[2])} on "
            f"{self.settings.runtime}. Ask for less, or leave the limit out to see the front."
        )

    # Trials

    def work(self) -> None:
        """Trials until there are enough of them, by this process and others on the same study."""
        assert self.source is not None, "`prepare` comes first"
        lane = Lane(
            self.experiment,
            self.source,
            self.folder / FOLDER / "trials",
            seed=self.settings.seed,
        )
        deadline = _deadline(self.settings.minutes)
        self.progress.begin("search", self.settings.trials, count(self.study.trials(), *TRAINED))
        try:
            while self._is_worth_more() and time.monotonic() < deadline:
                self._one(lane)
                self.progress.advance(count(self.study.trials(), *TRAINED))
        finally:
            self.progress.end()

    def tell_of(self, told: set[int]) -> None:
        """Show the trials of all processes that ended since; `told` remembers which were."""
        trials = self.study.trials()
        for trial in trials:
            if trial.state in (*TRAINED, State.FAILED) and trial.number not in told:
                told.add(trial.number)
                self.progress.note(self._said(trial))
        self.progress.advance(count(trials, *TRAINED))

    def _is_worth_more(self) -> bool:
        trials = self.study.trials()
        under_way = count(trials, *TRAINED, State.RUNNING)
        if count(trials, State.FAILED) >= 5 + self.settings.trials:
            raise RecipeError(f"The trials of this search fail: {trials[-1].reason or 'see above'}")
        if count(trials, State.REFUSED) >= REFUSALS * self.settings.trials:
            self.progress.note(
                f"{count(trials, State.REFUSED)} shapes missed the limits; no more are drawn"
            )
            return False
        return under_way < self.settings.trials

    def _one(self, lane: Lane) -> None:
        """Ask, weigh, perhaps train, tell."""
        asked = self.study.ask()
        trial = Trial(number=asked.number, state=State.RUNNING, values=asked.values)
        try:
            trial = self._weighed(asked, trial, lane)
        except Interrupted:
            raise  # its values are asked again by the next process
        except PotstillError as error:
            trial = replace(trial, state=State.FAILED, reason=str(error))
            self.study.tell(asked, trial, cost=None, excess={})
        if trial.state is not State.REFUSED:
            self.progress.note(self._said(trial))

    def _weighed(self, asked: Asked, trial: Trial, lane: Lane) -> Trial:
        candidate = self.make(asked.values)
        figures = self.scales.figures(candidate.model, self.targets)
        trial = replace(
            trial,
            figures=figures,
            description=candidate.model.description,
            objective=repr(candidate.objective),
            recipe=candidate.recipe,
        )
        excess, cost = self.targets.excess(figures), trial.cost(self.targets.axis)
        is_known = cost is not None and self.is_own(asked.values)
        if self.targets.worst(figures) > 0 and not is_known:
            trial = replace(trial, state=State.REFUSED, reason=self.targets.missed(figures))
        else:
            trial = self._trained(asked, trial, candidate, lane)
        self.study.tell(asked, trial, cost=cost, excess=excess)
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
        axis, higher = self.targets.axis, self.experiment.task.higher_is_better
        cost = trial.cost(axis)
        if cost is None or self.is_own(trial.values):
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

    def _said(self, trial: Trial) -> str:
        what = f"trial {trial.number}: {trial.description}"
        cost = shown(self.targets.axis, trial.cost(self.targets.axis))
        match trial.state:
            case State.DONE:
                assert trial.score is not None, "it is done"
                return f"{what}: {self.experiment.task.primary} {trial.score:.4f}, {cost}"
            case State.PRUNED:
                return f"{what}, {cost}: given up, {trial.reason}"
            case _:
                return f"{what}: failed, {trial.reason}"


def _deadline(minutes: float | None) -> float:
    return float("inf") if minutes is None else time.monotonic() + 60 * minutes
