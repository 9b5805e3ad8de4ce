"""The stages of a run, in order."""

import copy
import functools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import final

from potstill.data.samples import Samples
from potstill.export.card import model_card
from potstill.losses import Objective
from potstill.losses.early_exits import trains_exits_on_labels
from potstill.losses.objective import needs_teacher, objective_of
from potstill.measure.verdict import teacher_warning
from potstill.pipeline.calibrating import calibrated
from potstill.pipeline.climbing import DIRECT, check_growing, climb, grown, is_no_judge, stand_ins
from potstill.pipeline.correcting import correct
from potstill.pipeline.easing import with_ease
from potstill.pipeline.experiment import (
    Experiment,
    GrowingSource,
    MadeModel,
)
from potstill.pipeline.exporting import export_models
from potstill.pipeline.foreseeing import as_long
from potstill.pipeline.imagining import with_images
from potstill.pipeline.inheriting import heir
from potstill.pipeline.labelling import Source, source_of_answers, teaching_feed
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.measuring import measure_quality
from potstill.pipeline.packing import FOLDER
from potstill.pipeline.referring import refer_to
from potstill.pipeline.results import gather
from potstill.pipeline.rewriting import with_texts
from potstill.pipeline.run import Run
from potstill.pipeline.shipping import ship_models, write_cards
from potstill.pipeline.storing import taught_samples
from potstill.pipeline.teaching import Ready, get_teacher
from potstill.pipeline.training import Assigned, train
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.report import write_report
from potstill.runtime.environment import describe_environment
from potstill.runtime.files import write_json, write_text
from potstill.runtime.progress import Progress, Silent
from potstill.train.evaluate import answers_of, score
from potstill.train.handshake import Agreement, shake_hands
from potstill.train.pace import EXACT_PACE, Pace
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
        self._eased = experiment.learning  # with what is easy, once the teacher is ready
        self._direct = experiment.objective  # with layers of the teacher, not of a chain's link

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
        if isinstance(self._experiment.teacher, GrowingSource):
            ready, source_key = self._taught_by_a_growing_one(shop, self._experiment.teacher)
        else:
            ready, source_key = self._taught_in_turn(shop)
        corrected = correct(shop, ready.teacher)
        keys = [*self._keys(shop, ready), source_key, *([str(corrected)] if corrected else [])]
        measured = measure_quality(shop, ready, keys, corrected)
        exported = export_models(shop, ready, [*keys, str(self._experiment.measuring)])
        ship_models(shop, exported, [*keys, str(self._experiment.measuring)])
        results = gather(shop, ready, measured, exported, self._command)
        write_json(self._folder / "results.json", results)
        for role in ("teacher", "scratch", "distilled"):
            write_text(self._folder / "models" / role / "README.md", model_card(results, role))
        write_cards(self._folder / FOLDER, results)
        shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)
        shop.ledger.keep_only(shop.stages)
        write_report(self._folder)

    def _taught_in_turn(self, shop: Workshop) -> tuple[Ready, str]:
        """The teacher, perhaps models between, the students."""
        ready = calibrated(shop, get_teacher(shop))
        ready.teacher.to(shop.runtime.device)
        self._cut(shop, ready)
        if self._experiment.task.truth_from_teacher:
            refer_to(shop, ready.teacher)
        if self._experiment.data_free is not None:
            self._rewrite(shop, ready)
            last = self._check_fit(shop, ready.teacher)
        else:
            last = self._check_fit(shop, ready.teacher)
            self._rewrite(shop, ready)
        chain = self._experiment.chain
        source = None if chain is not None else source_of_answers(shop, ready.teacher)
        pace = self._pace(shop, last)
        self._students(shop, "scratch", None, pace)
        self._check_teacher(shop, ready)
        if source is None:
            source = source_of_answers(shop, climb(shop, ready).teacher)
        self._eased = with_ease(shop, ready.teacher)
        if chain is not None and chain.direct:
            direct = Source(teacher=ready.teacher)
            self._students(shop, DIRECT, direct, pace, objective=self._direct)
        learner = heir(self._experiment.student, ready)
        self._students(shop, "distilled", source, pace, student=learner)
        return ready, source.key

    def _taught_by_a_growing_one(self, shop: Workshop, growing: GrowingSource) -> tuple[Ready, str]:
        """Students whose teacher is made by their own training, which is asked about nothing."""
        e = self._experiment
        check_growing(shop, growing)
        self._students(shop, "scratch", None, lambda: EXACT_PACE)
        for seed in e.seeds:
            teacher = growing.make(seed)
            source = Source(teacher=teacher)
            self._students(
                shop, "distilled", source, lambda: EXACT_PACE, seeds=(seed,), kept=growing.kept
            )
        return grown(shop, growing), growing.make(e.seeds[0]).fingerprint()

    def _cut(self, shop: Workshop, ready: Ready) -> None:
        """Make the student of the trained teacher, if the experiment asks for that."""
        student = self._experiment.student
        if student.cut is None or len(ready.modules) != 1:
            return
        module, cut = ready.modules[0], student.cut
        made = replace(
            student,
            make=lambda _seed: cut(copy.deepcopy(module).cpu().requires_grad_(True)).train(),
            key=f"{student.key} {ready.teacher.fingerprint()}",
        )
        self._experiment = shop.experiment = replace(self._experiment, student=made)

    def _rewrite(self, shop: Workshop, ready: Ready) -> None:
        """Let the teacher write what the distilled students learn on, if the experiment asks."""
        shop.experiment = with_texts(shop, ready)
        self._experiment = shop.experiment = with_images(shop, ready)

    def _keys(self, shop: Workshop, ready: Ready) -> list[str]:
        """What the test figures depend on: every trained model."""
        e = self._experiment
        student: tuple[object, ...] = (e.student.key, e.learning, e.objective, e.seeds, e.export)
        prompts = e.measuring.prompts if e.data.tokens is not None else None
        asked, chain = (e.measuring.lm_eval, e.measuring.pairs, prompts), e.chain and e.chain.key
        rare = (e.on_policy, e.sequences, chain, e.data_free, *asked)
        student += tuple(part for part in rare if part is not None)
        return shop.key(ready.teacher.fingerprint(), *student)

    def _rehearse(self, shop: Workshop) -> None:
        """Both students' first batch, before a teacher is trained for hours."""
        self._shake(shop, self._scratch_objective(), None, self._experiment.data.lessons)

    def _check_fit(self, shop: Workshop, teacher: Teacher) -> Teacher:
        """The whole handshake, teacher and projectors included, before the students train.

        From here on objectives have names where their layers were `auto`, so that stores keep the
        right ones and stages depend on them.

        Returns:
            Whom the students will be taught by; of a chain its last link, with first weights.
        """
        e, chain, last = self._experiment, self._experiment.chain, teacher
        taught, links = taught_samples(e.data), []
        for link, above, below in stand_ins(e, teacher):
            named = self._shake(shop, link.objective, above, taught, model=link.model).named
            links.append(replace(link, objective=named))
            last = below.to(shop.runtime.device)
        agreed = self._shake(shop, e.objective, last, taught)
        if chain is not None and chain.direct:
            self._direct = self._shake(shop, e.objective, teacher, taught).named
        self._experiment = shop.settle(agreed)
        if chain is not None:
            named_chain = replace(chain, links=tuple(links))
            self._experiment = shop.experiment = replace(self._experiment, chain=named_chain)
        return last

    def _shake(
        self,
        shop: Workshop,
        objective: Objective,
        teacher: Teacher | None,
        samples: Samples,
        *,
        model: MadeModel | None = None,
    ) -> Agreement:
        e = self._experiment
        raw = teacher is not None and teacher.reads_raw
        feed = e.learning.feed(samples, e.data, seed=0, device=shop.runtime.device, raw=raw)
        student = (model or e.student).make(0).to(shop.runtime.device)
        batch = feed.batch(0, 0) if e.on_policy is None else undrawn(feed.batch(0, 0))
        return shake_hands(student, teacher, objective=objective, task=e.task, batch=batch)

    def _scratch_objective(self) -> Objective:
        """The task's own, and what trains early exits on labels, if the student has them."""
        usual = objective_of(self._experiment.task.default_objective())
        exits = [s for s in self._experiment.objective if trains_exits_on_labels(s.term)]
        return Objective((*usual.summands, *exits))

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
        *,
        student: MadeModel | None = None,
        objective: Objective | None = None,
        seeds: tuple[int, ...] | None = None,
        kept: Mapping[str, MadeModel] = MappingProxyType({}),
    ) -> None:
        e = self._experiment
        samples, learning, written_by = e.data.lessons, e.learning, ""
        learning = replace(learning, curriculum=None) if source is None else self._eased
        if source is not None and e.sequences is not None:
            written_by = f"{e.sequences} {source.key}"
        minimised = objective or e.objective
        asks = not written_by or needs_teacher(minimised.needs())
        if source is not None and e.data_free is not None:
            written_by = f"{e.data_free}"
        if source is not None:
            samples = taught_samples(e.data)
        else:
            learning = as_long(learning, e.data)
        for seed in e.seeds if seeds is None else seeds:
            train(
                shop,
                Assigned(
                    role=role,
                    seed=seed,
                    model=student or e.student,
                    learning=learning,
                    samples=samples,
                    objective=self._scratch_objective() if source is None else minimised,
                    teacher=None if source is None or not asks else source.teacher,
                    views=None if source is None else source.views,
                    on_policy=None if source is None else e.on_policy,
                    written_by=written_by,
                    kept=kept,
                    pace=pace,
                ),
            )

    def _check_teacher(self, shop: Workshop, ready: Ready) -> None:
        """Say loudly, before the distillation budget is spent, that a teacher is no better."""
        if is_no_judge(self._experiment):
            return
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
