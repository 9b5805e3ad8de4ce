"""The stages of a run, in order."""

import functools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import final

from potstill.export.card import model_card
from potstill.losses import Objective
from potstill.losses.objective import objective_of
from potstill.measure.verdict import teacher_warning
from potstill.pipeline.experiment import Experiment, Learning, MadeModel
from potstill.pipeline.exporting import export_models
from potstill.pipeline.inheriting import heir
from potstill.pipeline.labelling import Source, source_of_answers, teaching_feed
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.measuring import measure_quality
from potstill.pipeline.referring import refer_to
from potstill.pipeline.results import gather
from potstill.pipeline.rewriting import with_texts
from potstill.pipeline.run import Run
from potstill.pipeline.storing import taught_samples
from potstill.pipeline.teaching import Ready, get_teacher
from potstill.pipeline.training import Assigned, train
from potstill.pipeline.workshop import Silent, Workshop
from potstill.protocols import Teacher
from potstill.report import write_report
from potstill.runtime.environment import describe_environment
from potstill.runtime.files import write_json, write_text
from potstill.train.evaluate import answers_of, score
from potstill.train.handshake import Agreement, shake_hands
from potstill.train.pace import Pace
from potstill.train.progress import Progress
from potstill.train.replaced import undrawn


@final
class Pipeline:
    """Runs an experiment in a folder; what is done already is not done again.

    Args:
        experiment: what to do.
        folder: the run folder; made if it is missing.
        progress: told of what happens; silence if left out.
        command: how to start the same run again, for the report.
        cache: the file in which measured speeds are remembered for other runs.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        *,
        progress: Progress | None = None,
        command: str = "",
        cache: Path | None = None,
    ) -> None:
        self._experiment, self._folder = experiment, folder
        self._progress, self._command = progress or Silent(), command
        self._cache = cache

    def run(self) -> Run:
        """All stages. Raises what they raise; a later call goes on where this one stopped."""
        ledger = Ledger(self._folder)
        try:
            shop = Workshop(
                self._experiment,
                self._folder,
                ledger=ledger,
                progress=self._progress,
                cache=self._cache,
            )
            self._describe()
            self._stages(shop)
            shop.runtime.close()
        finally:
            ledger.close()
        return Run(self._folder)

    def _describe(self) -> None:
        if self._experiment.recipe:
            write_text(self._folder / "recipe.yaml", self._experiment.recipe)
        about = describe_environment()
        about |= {"seeds": list(self._experiment.seeds), "command": self._command}
        write_json(self._folder / "environment.json", about)

    def _stages(self, shop: Workshop) -> None:
        self._rehearse(shop)
        ready = get_teacher(shop)
        ready.teacher.to(shop.runtime.device)
        if self._experiment.task.truth_from_teacher:
            refer_to(shop, ready.teacher)
        self._check_fit(shop, ready.teacher)
        self._rewrite(shop, ready)
        source = source_of_answers(shop, ready.teacher)
        pace = self._pace(shop, ready.teacher)
        self._students(shop, "scratch", None, pace, self._experiment.student)
        self._check_teacher(shop, ready)
        self._students(shop, "distilled", source, pace, heir(self._experiment.student, ready))
        keys = [*self._keys(shop, ready), source.key]
        measured = measure_quality(shop, ready, keys)
        exported = export_models(shop, ready, [*keys, str(self._experiment.measuring)])
        results = gather(shop, ready, measured, exported, self._command)
        write_json(self._folder / "results.json", results)
        for role in ("teacher", "scratch", "distilled"):
            write_text(self._folder / "models" / role / "README.md", model_card(results, role))
        shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)
        shop.ledger.keep_only(shop.stages)
        write_report(self._folder)

    def _rewrite(self, shop: Workshop, ready: Ready) -> None:
        """Let the teacher write what the distilled students learn on, if the experiment asks."""
        self._experiment = shop.experiment = with_texts(shop, ready)

    def _keys(self, shop: Workshop, ready: Ready) -> list[str]:
        """What the test figures depend on: every trained model."""
        e = self._experiment
        student: tuple[object, ...] = (e.student.key, e.learning, e.objective, e.seeds, e.export)
        student += tuple(part for part in (e.on_policy, e.sequences) if part is not None)
        return shop.key(ready.teacher.fingerprint(), *student)

    def _rehearse(self, shop: Workshop) -> None:
        """Both students' first batch, before a teacher is trained for hours."""
        self._shake(shop, self._scratch_objective(), None)

    def _check_fit(self, shop: Workshop, teacher: Teacher) -> None:
        """The whole handshake, teacher and projectors included, before the students train.

        From here on the objective has names where its layers were `auto`, so that stores keep the
        right ones and stages depend on them.
        """
        agreed = self._shake(shop, self._experiment.objective, teacher)
        self._experiment = shop.settle(agreed)

    def _shake(self, shop: Workshop, objective: Objective, teacher: Teacher | None) -> Agreement:
        e = self._experiment
        raw = teacher is not None and teacher.reads_raw
        feed = e.learning.feed(e.data.train, e.data, seed=0, device=shop.runtime.device, raw=raw)
        student = e.student.make(0).to(shop.runtime.device)
        batch = feed.batch(0, 0) if e.on_policy is None else undrawn(feed.batch(0, 0))
        return shake_hands(student, teacher, objective=objective, task=e.task, batch=batch)

    def _scratch_objective(self) -> Objective:
        return objective_of(self._experiment.task.default_objective())

    def _pace(self, shop: Workshop, teacher: Teacher) -> Callable[[], Pace]:
        """Of the students, with and without the teacher alike; chosen when one is trained."""
        e = self._experiment

        @functools.cache
        def pace() -> Pace:
            return shop.hastening.pace(
                "student",
                e.student,
                lambda: teaching_feed(shop, teacher),
                teacher=teacher,
                objective=e.objective,
                settings=e.learning.settings,
                runs=len(e.seeds),
            )

        return pace

    def _students(
        self,
        shop: Workshop,
        role: str,
        source: Source | None,
        pace: Callable[[], Pace],
        student: MadeModel,
    ) -> None:
        e = self._experiment
        samples, learning, written_by = e.data.train, e.learning, ""
        if source is not None and e.sequences is not None:
            written_by = f"{e.sequences} {source.key}"
        needs = e.objective.needs()
        asks = not written_by or needs.teacher_logits or bool(needs.teacher_layers)
        if source is not None:
            samples = taught_samples(e.data)
        elif e.data.transfer is not None:
            all_samples = len(samples) + len(e.data.transfer)
            learning = _as_long(learning, mine=len(samples), theirs=all_samples)
        for seed in e.seeds:
            train(
                shop,
                Assigned(
                    role=role,
                    seed=seed,
                    model=student,
                    learning=learning,
                    samples=samples,
                    objective=self._scratch_objective() if source is None else e.objective,
                    teacher=None if source is None or not asks else source.teacher,
                    views=None if source is None else source.views,
                    on_policy=None if source is None else e.on_policy,
                    written_by=written_by,
                    pace=pace,
                ),
            )

    def _check_teacher(self, shop: Workshop, ready: Ready) -> None:
        """Say loudly, before the distillation budget is spent, that a teacher is no better."""
        task, outcome = self._experiment.task, shop.ledger.outcome
        validation = shop.feed(shop.experiment.data.validation)
        taught = score(answers_of(ready.teacher, validation, task), task)[task.primary]
        scratch = [outcome(f"scratch/{seed}")["validation"] for seed in self._experiment.seeds]
        warning = teacher_warning(
            [taught],
            [float(v) for v in scratch if isinstance(v, int | float)],
            metric=task.primary,
            higher_is_better=task.higher_is_better,
        )
        if warning is not None:
            shop.warn(warning)


def _as_long(learning: Learning, *, mine: int, theirs: int) -> Learning:
    """As many epochs of `mine` samples as make the steps of its epochs of `theirs` samples."""
    settings = learning.settings
    steps = settings.epochs * _batches(theirs, settings.batch_size)
    epochs = max(1, round(steps / _batches(mine, settings.batch_size)))
    return replace(learning, settings=replace(settings, epochs=epochs))


def _batches(samples: int, size: int) -> int:
    return -(-samples // min(size, samples))
