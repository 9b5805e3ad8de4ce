"""How a search ends: its front timed once more, the point to take, the files that are left."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, final

from potstill.errors import RecipeError
from potstill.pipeline.experiment import MadeModel, TrainedTeacher
from potstill.pipeline.searching import FOLDER, Search
from potstill.report.searching import write_search_report
from potstill.runtime.files import read_json, write_json, write_text
from potstill.search import (
    Recommendation,
    State,
    Targets,
    Trial,
    count,
    front,
    lesson,
    recommend,
    shown,
)
from potstill.search.targets import LATENCY, PARAMETERS, WORDS

RESULT, RECOMMENDED = "search.json", "recommended.yaml"


@final
@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Args:
        folder: of the search, in the run folder: `search.json`, `report.html`,
            `recommended.yaml`, the study.
        front: the trials that no other one beats, cheapest first.
        recommended: the one to take, and why.
        own: the trial of the recipe's own student; `None` if it missed the limits.
        trials: all of them.
        content: of `search.json`.
    """

    folder: Path
    front: tuple[Trial, ...]
    recommended: Recommendation
    own: Trial | None
    trials: tuple[Trial, ...]
    content: Mapping[str, object]

    @property
    def recipe(self) -> Path:
        """The recommended recipe, for `potstill run`."""
        return self.folder / RECOMMENDED

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / "report.html"

    def summary(self) -> str:
        """How many were trained, and how often the teacher was asked, in a sentence."""
        counts = cast("Mapping[str, int]", self.content["counts"])
        teacher = cast("Mapping[str, int]", self.content["teacher"])
        return (
            f"{counts['done']} students trained, {counts['pruned']} given up early, "
            f"{counts['refused']} shapes refused before training, {counts['failed']} failed; the "
            f"teacher was asked about {teacher['labelled']:,} samples for the store and about "
            f"{teacher['asked_by_trials']:,} by the trials, which read "
            f"{teacher['read_from_store']:,} answers"
        )

    def table(self) -> list[list[str]]:
        """Rows of text: a heading, then the front, cheapest first, and the recipe's own student."""
        axis, metric = str(self.content["axis"]), str(self.content["primary"])
        rows = [
            ["trial", "student", "learns by", f"validation {metric}", WORDS[axis], "parameters"]
        ]
        shown_too = [] if self.own is None or self.own in self.front else [self.own]
        for trial in (*self.front, *shown_too):
            mark = " *" if trial.number == self.recommended.trial.number else ""
            mark += " (recipe's own)" if trial == self.own else ""
            rows.append(
                [
                    f"{trial.number}{mark}",
                    trial.student,
                    lesson(trial.values),
                    f"{trial.score:.4f}",
                    shown(axis, trial.cost(axis)),
                    shown(PARAMETERS, trial.cost(PARAMETERS)),
                ]
            )
        return rows


def conclude(search: Search) -> Found:
    """Time the front in turns, recommend a point, write everything down.

    Raises:
        RecipeError: no trial was finished.
    """
    task, targets = search.experiment.task, search.targets
    higher = task.higher_is_better
    trials = search.study.trials()
    done = [t for t in trials if t.state is State.DONE]
    if not done:
        raise RecipeError(
            f"No student was trained to its end: {count(trials, State.REFUSED)} shapes missed the "
            f"limits ({targets}), {count(trials, State.FAILED)} trials failed. Give more time "
            "(`--trials`, `--minutes`) or a wider target."
        )
    own = next((t for t in done if search.rules.is_own(t.values)), None)
    kept = [t for t in done if targets.worst(t.figures) <= 0]
    once = front(kept or done, axis=targets.axis, higher_is_better=higher)
    timed = _again(search, once if own is None or own in once else [*once, own])
    trials = [timed.get(t.number, t) for t in trials]
    chosen = front(
        _kept([t for t in trials if t.number in {o.number for o in once}], targets),
        axis=targets.axis,
        higher_is_better=higher,
    )
    best = recommend(chosen, targets=targets, metric=task.primary)
    folder = search.folder / FOLDER
    content = _content(search, trials, chosen, best, own)
    write_text(folder / RECOMMENDED, best.trial.recipe)
    write_json(folder / RESULT, content)
    write_search_report(folder)
    _tidy(search)
    return Found(
        folder=folder,
        front=tuple(chosen),
        recommended=best,
        own=None if own is None else timed.get(own.number, own),
        trials=tuple(trials),
        content=content,
    )


def _kept(trials: list[Trial], targets: Targets) -> list[Trial]:
    """Those that still keep the limits, timed again; all of them if none does."""
    return [t for t in trials if targets.worst(t.figures) <= 0] or trials


def _again(search: Search, trials: Sequence[Trial]) -> dict[int, Trial]:
    """The trials with a latency that was taken in turns, by number."""
    models: dict[str, MadeModel] = {str(t.number): search.make(t.values).model for t in trials}
    found = search.scales.retimed(models)
    return {t.number: t.with_figures({LATENCY: found[str(t.number)]}) for t in trials}


def _content(
    search: Search,
    trials: Sequence[Trial],
    chosen: Sequence[Trial],
    best: Recommendation,
    own: Trial | None,
) -> dict[str, object]:
    task, targets = search.experiment.task, search.targets
    settings = {k: v for k, v in asdict(search.settings).items() if k != "storage"}  # a password
    return {
        "name": search.experiment.name,
        "task": task.name or task.kind,
        "primary": task.primary,
        "higher_is_better": task.higher_is_better,
        "axis": targets.axis,
        "limits": dict(targets.limits),
        "target": str(targets),
        "settings": settings,
        "counts": {state.value: count(trials, state) for state in State},
        "teacher": _teacher(search, trials),
        "front": [t.number for t in chosen],
        "own": None if own is None else own.number,
        "recommended": {"trial": best.trial.number, "why": best.why, "recipe": RECOMMENDED},
        "warnings": _warnings(search, best.trial),
        "importance": search.study.importance(),
        "seconds": round(sum(t.seconds for t in trials), 3),
        "trials": [{**t.to_json(), "lesson": lesson(t.values)} for t in trials],
    }


def _warnings(search: Search, best: Trial) -> list[str]:
    """What should be put right before the search is believed."""
    taught = _teacher(search, ()).get("validation")
    task = search.experiment.task
    sign = 1.0 if task.higher_is_better else -1.0
    if (
        not isinstance(taught, int | float)
        or best.score is None
        or sign * best.score < sign * taught
    ):
        return []
    said = f"{task.primary} {best.score:.4f} on validation data"
    advice = "train or choose a better teacher, and search again."
    return [
        f"The recommended student ({said}) is not worse than its teacher ({taught:.4f}); {advice}"
    ]


def _teacher(search: Search, trials: Sequence[Trial]) -> dict[str, object]:
    """How often the teacher was asked: once for the store, and by the trials."""
    stages = cast(
        "Mapping[str, Mapping[str, Any]]",
        read_json(search.folder / "stages.json").get("stages", {}),
    )
    labelled = cast("Mapping[str, object]", stages.get("label", {}).get("outcome", {}))
    source = search.experiment.teacher
    return {
        "name": source.model.name if isinstance(source, TrainedTeacher) else "",
        "validation": stages.get("teacher/0", {}).get("outcome", {}).get("validation"),
        "labelled": labelled.get("records", 0),
        "asked_by_trials": sum(t.teacher_calls for t in trials),
        "read_from_store": sum(t.stored_answers for t in trials),
    }


def _tidy(search: Search) -> None:
    """Remove the weights of trials and the files that were only timed, once nobody needs them."""
    if count(search.study.trials(), State.RUNNING):
        return
    search.scales.clear()
    shutil.rmtree(search.folder / FOLDER / "trials", ignore_errors=True)
