"""`speed: auto` in a run: what is chosen once, for the teacher and for each student, and kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, final

from potstill.data.feed import Feed
from potstill.errors import StorageError
from potstill.losses import Objective
from potstill.pipeline.experiment import Experiment, MadeModel, Speed
from potstill.protocols import Teacher
from potstill.runtime.fabric import Precision, Runtime
from potstill.runtime.fast import Choice, Memory
from potstill.runtime.fast.trials import State, table
from potstill.runtime.files import read_json, write_json
from potstill.signals import Batch
from potstill.teachers.fast import Request, hasten, rebuild
from potstill.teachers.fingerprints import digest
from potstill.train.pace import Pace
from potstill.train.pacing import Stint, choose_pace, pace_named
from potstill.train.settings import TrainSettings

RECORD = "speed.json"
MOST_BATCHES = 8  # that a teacher's answers are compared on
_DEVICES = frozenset({"cpu", "cuda"})


@final
class Hastening:
    """The choices of a run, in `speed.json`: a run that goes on makes the same ones.

    Args:
        experiment: asks for `auto` or `exact`.
        runtime: of the run.
        folder: of the run.
        note: told each choice.
        cache: the file in which times are remembered for other runs; `None` for none.
    """

    def __init__(
        self,
        experiment: Experiment,
        runtime: Runtime,
        folder: Path,
        *,
        note: Callable[[str], None],
        cache: Path | None = None,
    ) -> None:
        self._experiment, self._runtime, self._note = experiment, runtime, note
        self._path = folder / RECORD
        self._memory = Memory(cache)
        self._kept = _read(self._path)
        auto = experiment.speed is Speed.AUTO
        able = runtime.world_size == 1 and runtime.device.type in _DEVICES
        texts = experiment.data.tokens is not None or experiment.task.kind == "tokens"
        self.is_on = auto and able and not texts
        fused = auto and able and texts and runtime.precision is not Precision.FP16
        self.usual = Pace(fused=fused)  # where nothing is tried
        if auto and able and texts:
            note(f"speed: {self.usual.name}, because batches of texts differ in length")

    def learn_from(self, objective: Objective) -> None:
        """Take another objective of the experiment, whose layers have been named."""
        self._experiment = replace(self._experiment, objective=objective)

    def summary(self) -> list[dict[str, object]]:
        """For `results.json`: who runs how, and how much faster."""
        return [choice.summary() for choices in self._kept.values() for choice in choices]

    def teacher(
        self,
        teacher: Teacher,
        feed: Feed,
        *,
        steps: int,
        runs: int = 1,
        layers: Sequence[str] | None = None,
    ) -> Teacher:
        """The teacher as fast as it goes, for so many batches of a feed.

        Args:
            teacher: the exact one.
            feed: what it will be asked about.
            steps: how many batches of each training (or of the labelling).
            runs: how many trainings.
            layers: whose outputs are wanted; those that the objective reads if left out.
        """
        if not self.is_on:
            return teacher
        e, needs = self._experiment, self._experiment.objective.needs()
        wanted = tuple(needs.teacher_layers if layers is None else layers)
        request = Request(
            task=e.task,
            batches=first_batches(feed, MOST_BATCHES),
            steps=steps * runs,
            layers=wanted,
            raw=needs.raw_teacher_logits,
            bounds=e.bounds,
            memory=self._memory,
        )
        key = digest([teacher.fingerprint(), str(wanted), self._common(steps)])
        if key in self._kept:
            try:
                return rebuild(teacher, request, self._kept[key])
            except KeyError:
                self._note("speed: what was chosen before is not there any more; choosing again")
        fast, choices = hasten(teacher, request)
        self._keep(key, choices)
        return fast

    def pace(
        self,
        name: str,
        model: MadeModel,
        feed: Callable[[], Feed],
        *,
        teacher: Teacher | None,
        objective: Objective,
        settings: TrainSettings,
        runs: int = 1,
    ) -> Pace:
        """The pace of a model's training.

        Args:
            name: for the table.
            model: what is trained.
            feed: its batches.
            teacher: the exact one, if there is one.
            objective: what is minimised.
            settings: of each training.
            runs: how many trainings.
        """
        if not self.is_on:
            return self.usual
        found = feed()
        steps = settings.epochs * found.num_batches
        taught_by = "" if teacher is None else teacher.fingerprint()
        key = digest([name, model.key, repr(objective), repr(settings), taught_by,
                      self._common(steps)])  # fmt: skip
        if key in self._kept:
            return pace_named(self._kept[key][0].chosen.name)
        choice, pace = choose_pace(
            Stint(
                student=model.make(0),
                teacher=teacher,
                objective=objective,
                task=self._experiment.task,
                settings=settings,
                runtime=self._runtime,
                batches=first_batches(found, 2),
                steps=steps * runs,
                bounds=self._experiment.bounds,
                memory=self._memory,
                name=name,
            )
        )
        self._keep(key, [choice])
        return pace

    def _common(self, steps: int) -> str:
        """Not the number of trainings: a seed that is added later is trained in the same way."""
        return f"{self._experiment.bounds} {self._runtime.device.type} {steps}"

    def _keep(self, key: str, choices: Sequence[Choice]) -> None:
        self._kept[key] = tuple(choices)
        content = [
            {"for": name, "choices": [each.to_json() for each in made]}
            for name, made in self._kept.items()
        ]
        write_json(self._path, {"chosen": content})
        for choice in choices:
            self._note(f"speed: {choice.sentence}")
            tried = [t for t in choice.trials if t.state is not State.NOT_TRIED]
            if len(tried) > 1 and not choice.remembered:
                for line in table([replace(choice, role=choice.role.partition(",")[0])]):
                    self._note(f"  {line}")


def first_batches(feed: Feed, most: int) -> list[Batch]:
    """The first whole batches of the first epoch, at least one."""
    whole = len(feed.samples) // feed.batch_size
    return [feed.batch(0, index) for index in range(max(1, min(most, whole)))]


def _read(path: Path) -> dict[str, tuple[Choice, ...]]:
    """What was chosen before; nothing if that cannot be read."""
    if not path.exists():
        return {}
    try:
        content = cast("list[dict[str, object]]", read_json(path)["chosen"])
        return {
            str(each["for"]): tuple(
                Choice.from_json(c) for c in cast("list[dict[str, object]]", each["choices"])
            )
            for each in content
        }
    except (StorageError, KeyError, TypeError, ValueError):
        return {}
