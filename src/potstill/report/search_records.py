"""What `search.json` says, in words: trials by number, their figures, their lines of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import yaml

from potstill.report import wording

COSTS = {
    "latency_ms": ("Latency of a call", wording.milliseconds),
    "bytes": ("Size of the file", wording.size),
    "memory": ("Working memory", wording.size),
    "parameters": ("Parameters", wording.count),
    "flops": ("FLOPs of a sample", wording.count),
}


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    marks: tuple[str, ...]
    recipe: str


def columns_of(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The heading of `rows`."""
    metric, cost = wording.metric_name(found["primary"]), COSTS[found["axis"]][0]
    return ("Trial", "Student", "Learns by", metric, cost, "Parameters", "Time")


def rows(found: Mapping[str, Any], numbers: Sequence[int]) -> list[Row]:
    """Trials as lines of a table."""
    made = []
    for number in numbers:
        trial = trial_of(found, number)
        marks = [
            word
            for word, is_it in (
                ("recommended", number == found["recommended"]["trial"]),
                ("recipe's own", number == found["own"]),
                (trial["state"], trial["state"] != "done"),
            )
            if is_it
        ]
        cells = (
            str(number),
            name_of(trial),
            trial["lesson"],
            score_of(found, trial),
            cost_of(found, trial),
            wording.count(trial["figures"].get("parameters")),
            wording.seconds(trial["seconds"]),
        )
        made.append(Row(cells=cells, marks=tuple(marks), recipe=excerpt(trial["recipe"] or "{}")))
    return made


def excerpt(recipe: str) -> str:
    """Student, learning rate and objective of a recipe, as YAML."""
    content = yaml.safe_load(recipe) or {}
    student = content.get("student", {}).get("model", {})
    distill = content.get("distill", {})
    kept = {
        "student": {k: v for k, v in student.items() if v not in ("", None)},
        "distill": {"lr": distill.get("lr"), "objective": distill.get("objective")},
    }
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, default_flow_style=None)


def trial_of(found: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """A trial by its number."""
    match: Mapping[str, Any] = next(t for t in found["trials"] if t["number"] == number)
    return match


def name_of(trial: Mapping[str, Any]) -> str:
    """The student, without what goes in and out."""
    said = str(trial["description"])
    return said.partition("), ")[0] + ")" if "), " in said else said.partition(", ")[0]


def value_of(found: Mapping[str, Any], trial: Mapping[str, Any]) -> float:
    """What a trial costs on the axis of the search."""
    return float(trial["figures"].get(found["axis"]) or 0.0)


def cost_of(found: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    """The same with its unit."""
    return COSTS[found["axis"]][1](trial["figures"].get(found["axis"]))


def score_of(found: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    """The metric, as people read it."""
    return wording.score(trial["score"], metric=found["primary"])
