"""The stage of a search: the teacher once, then trials, then the front and what to take of it.

Test data are never asked about: shapes are timed on training samples, students are scored on
validation data, and what holds on test data is said by the run of the recommended recipe.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

from potstill.errors import PotstillError, RecipeError, StorageError
from potstill.pipeline.calibrating import calibrated
from potstill.pipeline.candidates import Figures, Make, Scales
from potstill.pipeline.experiment import Experiment
from potstill.pipeline.labelling import Source, source_of_answers
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.search_settings import Settings
from potstill.pipeline.teaching import Ready, get_teacher
from potstill.pipeline.trialling import Lane
from potstill.pipeline.trying import TRAINED, Rules, Trying, said_of
from potstill.pipeline.workshop import Workshop
from potstill.runtime.progress import Progress, Silent
from potstill.search import (
    FAMILY,
    OWN,
    Space,
    State,
    Study,
    Targets,
    Values,
    count,
)
from potstill.search.targets import BASE, MEMORY, OPTIONS

FOLDER = "search"
_WAIT_SECONDS = 1.0
_DOUBT = 0.1  # a latency so much beyond its limit may still be the machine's mood


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
        self.hopeless: dict[str, Figures] = {}
        self.ready: Ready | None = None
        self.source: Source | None = None

    def words(self) -> list[str]:
        """Options of `potstill search` that say the same targets and settings."""
        s = self.settings
        words = [f"{OPTIONS[q]}={limit!r}{BASE[q]}" for q, limit in self.targets.limits.items()]
        words += [f"--trials={s.trials}", f"--threads={s.threads}", f"--runtime={s.runtime}"]
        words += [f"--seed={s.seed}"]
        words += [] if s.epochs is None else [f"--epochs={s.epochs}"]
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
                    s.epochs,
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

    @property
    def rules(self) -> Rules:
        """What is refused, and what is never given up."""
        task, own = self.experiment.task, tuple(self.first)
        return Rules(targets=self.targets, task=task, own=own, hopeless=self.hopeless)

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
        """Say before anything is trained that no student meets the target.

        Families whose smallest student misses it are remembered; nothing of theirs is measured.
        """
        if not self.targets.limits:
            return
        branches = next(c.branches for c in self.space.choices if c.name == FAMILY)
        smallest: dict[str, tuple[str, Figures]] = {}
        for branch in branches:
            model = self.make(self.space.smallest(FAMILY, branch)).model
            try:
                smallest[branch] = model.description, self.scales.figures(model, self.targets)
            except PotstillError as error:
                self.progress.note(f"{branch}: its smallest student cannot be measured, {error}")
        if not smallest:
            raise RecipeError("None of the families of students can be built for these data.")
        self.hopeless = {
            branch: figures
            for branch, (_, figures) in smallest.items()
            if branch != OWN and self.targets.worst(figures) > _DOUBT
        }
        if all(self.targets.worst(figures) > 0 for _, figures in smallest.values()):
            raise RecipeError(self._nobody(branches, list(smallest.values())))
        for branch, figures in self.hopeless.items():
            self.progress.note(f"{branch}: even its smallest has {self.targets.missed(figures)}")

    def _nobody(self, branches: Iterable[str], smallest: Sequence[tuple[str, Figures]]) -> str:
        name, figures = min(smallest, key=lambda each: self.targets.worst(each[1]))
        return (
            f"No student of {', '.join(branches)} meets the target ({self.targets}): the nearest "
            f"is {name}, with {self.targets.missed(figures)} on {self.settings.runtime}. Ask for "
            "less, or leave the limit out to see the front."
        )

    def work(self) -> None:
        """Trials until there are enough of them, by this process and others on the same study."""
        assert self.source is not None, "`prepare` comes first"
        folder = self.folder / FOLDER / "trials"
        lane = Lane(self.experiment, self.source, folder, seed=self.settings.seed)
        Trying(
            study=self.study,
            make=self.make,
            scales=self.scales,
            rules=self.rules,
            progress=self.progress,
        ).work(lane, trials=self.settings.trials, minutes=self.settings.minutes)

    def tell_of(self, told: set[int]) -> None:
        """Show the trials of all processes that ended since; `told` remembers which were."""
        trials = self.study.trials()
        for trial in trials:
            if trial.state in (*TRAINED, State.FAILED) and trial.number not in told:
                told.add(trial.number)
                self.progress.note(said_of(trial, self.experiment.task.primary, self.targets.axis))
        self.progress.advance(count(trials, *TRAINED))
