"""One trial of a search: a candidate trained on stored answers, given up early where that shows."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, final

from potstill.errors import PotstillError
from potstill.pipeline.candidates import Candidate
from potstill.pipeline.counting import CountedTeacher
from potstill.pipeline.experiment import Experiment, Speed, Storing, Use
from potstill.pipeline.labelling import Source
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.storing import taught_samples
from potstill.pipeline.training import Assigned, train
from potstill.pipeline.workshop import Workshop
from potstill.runtime.progress import Silent
from potstill.search.trials import State
from potstill.teachers import StoredTeacher
from potstill.train.watch import Watch

ROLE = "distilled"


class GivenUp(PotstillError):
    """A trial that is not worth going on with."""


@final
@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a trial: see `potstill.search.Trial`."""

    state: State
    score: float | None
    curve: dict[int, float]
    seconds: float
    reason: str
    teacher_calls: int
    stored_answers: int


@final
class Lane:
    """Where trials are trained, one after the other.

    Args:
        experiment: the recipe's, with its data and its task.
        source: whom students ask.
        folder: of all trials; each has a folder of its own in it, named by its values.
        seed: of weights and order, the same in all trials.
    """

    def __init__(self, experiment: Experiment, source: Source, folder: Path, *, seed: int) -> None:
        self._experiment, self._source = experiment, source
        self._folder, self._seed = folder, seed

    def train(
        self, name: str, candidate: Candidate, *, judge: Callable[[int, float], str]
    ) -> Trained:
        """Train a candidate, or go on with it; done already, it is only read.

        Args:
            name: of its folder; the same for the same values.
            candidate: what is trained.
            judge: asked after every validation but the last, with the epoch and the metric; a text
                gives the trial up, for that reason.

        Raises:
            PotstillError: what training raises.
        """
        teacher = CountedTeacher(self._source.teacher)
        curve: dict[int, float] = {}
        last = candidate.learning.settings.epochs
        beginning = time.monotonic()

        def watch(epoch: int, value: float) -> None:
            curve[epoch] = value
            reason = "" if epoch == last else judge(epoch, value)
            if reason:
                raise GivenUp(reason)

        state, score, reason = State.DONE, None, ""
        try:
            score = self._trained(self._folder / name, candidate, teacher, watch)
            curve = self._curve(self._folder / name)
        except GivenUp as stop:
            state, reason = State.PRUNED, str(stop)
            shutil.rmtree(self._folder / name / "checkpoints", ignore_errors=True)
        stored = isinstance(self._source.teacher, StoredTeacher)
        return Trained(
            state=state,
            score=score,
            curve=curve,
            seconds=time.monotonic() - beginning,
            reason=reason,
            teacher_calls=0 if stored else teacher.asked,
            stored_answers=teacher.asked if stored else 0,
        )

    def _trained(
        self, folder: Path, candidate: Candidate, teacher: CountedTeacher, watch: Watch
    ) -> float:
        e = self._experiment
        experiment = replace(
            e,
            name=folder.name,
            student=candidate.model,
            objective=candidate.objective,
            learning=candidate.learning,
            seeds=(self._seed,),
            measuring=replace(e.measuring, energy=False),
            speed=Speed.EXACT,
            storing=Storing(use=Use.OFF),
            track=(),
        )
        ledger = Ledger(folder)
        try:
            shop = Workshop(experiment, folder, ledger=ledger, progress=Silent())
            outcome = train(
                shop,
                Assigned(
                    role=ROLE,
                    seed=self._seed,
                    model=candidate.model,
                    learning=candidate.learning,
                    samples=taught_samples(e.data),
                    objective=candidate.objective,
                    teacher=teacher,
                    views=self._source.views,
                    watch=watch,
                ),
            )
            shop.runtime.close()
        finally:
            ledger.close()
        return float(cast("float", outcome["validation"]))

    def _curve(self, folder: Path) -> dict[int, float]:
        """The metric by epoch, also of epochs that another process trained."""
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        primary = self._experiment.task.primary
        return {
            line["epoch"]: line["metrics"][primary]
            for line in lines
            if line["split"] == "validation"
        }
