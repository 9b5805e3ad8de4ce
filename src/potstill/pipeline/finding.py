"""Tables for the report of what a run found out about its conditions."""

from collections.abc import Mapping, Sequence
from typing import cast

from potstill.pipeline.experiment import Experiment

Tree = Mapping[str, object]
Figures = Mapping[str, object]


def findings(experiment: Experiment, measured: Tree) -> list[dict[str, object]]:
    """Title, note, columns and rows of each table; none where there is nothing to say."""
    made = []
    if correction := measured.get("correction"):
        made.append(_correction(experiment, cast("Tree", correction)))
    if groups := measured.get("groups"):
        made.append(_groups(experiment, cast("Tree", groups)))
    if confidence := measured.get("teacher_calibration"):
        made.append(_confidence(cast("Tree", confidence)))
    return made


def table(
    title: str, note: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[str, object]:
    """One table in the form that reports read."""
    return {
        "title": title,
        "note": note,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
    }


def _correction(experiment: Experiment, found: Tree) -> dict[str, object]:
    names = experiment.data.classes or ()
    primary = cast("Mapping[str, Figures]", found["primary"])
    recall = cast("Mapping[str, Mapping[str, Figures]]", found["recall"])
    seeds = cast("Mapping[str, Tree]", found["seeds"])
    rows = [[experiment.task.primary, *_pair(primary)]]
    for number, both in recall.items():
        name = names[int(number)] if names else number
        rows.append([f"`{name}` right", *_pair(both)])
    ways = ", ".join(f"seed {seed}: {values['way']}" for seed, values in seeds.items())
    shipped = any(values["shipped"] for values in seeds.values())
    note = (
        "Students saw some classes less often than the teacher knows them. The correction of the "
        f"output biases was chosen on the validation data ({ways}) and is "
        + ("part of the distilled student." if shipped else "proposed; it is not applied.")
    )
    return table("Correction of the output biases", note, ["on the test data", *_WHEN], rows)


def _groups(experiment: Experiment, found: Tree) -> dict[str, object]:
    names = cast("Mapping[str, int]", found["rows"])
    figures = cast("Mapping[str, Mapping[str, Mapping[str, float]]]", found["figures"])
    worst = cast("Mapping[str, Mapping[str, object]]", found["worst"])
    roles = list(figures)
    rows = [
        [name, str(count), *(f"{figures[role][name]['mean']:.4f}" for role in roles)]
        for name, count in names.items()
    ]
    last = [f"{worst[role]['mean']:.4f} ({worst[role]['group']})" for role in roles]
    rows.append(["worst group", "", *last])
    note = f"{experiment.task.primary} of each group of the test data, mean over seeds."
    return table("Groups", note, ["group", "rows", *roles], rows)


def _confidence(found: Tree) -> dict[str, object]:
    rows = []
    for part in ("validation", "test"):
        figures = cast("Mapping[str, Mapping[str, float]]", found[part])
        for name, what in (("ece", "calibration error"), ("nll", "negative log-likelihood")):
            both = [f"{figures[name][when]:.4f}" for when in _WHEN]
            rows.append([f"{what} on {part} data", *both])
    note = (
        f"Its logits are divided by {cast('float', found['temperature']):.3f}, which suits the "
        "validation data best; students learn from the calibrated answers."
    )
    return table("Calibration of the teacher", note, ["", *_WHEN], rows)


_WHEN = ("before", "after")


def _pair(figures: Mapping[str, Figures]) -> list[str]:
    return [shown(figures.get(when)) for when in _WHEN]


def shown(summary: object) -> str:
    """A mean with its spread, as a share."""
    if not isinstance(summary, Mapping):
        return "–"
    std = summary.get("std")
    spread = f" ± {100 * std:.2f}" if isinstance(std, float) else ""
    return f"{100 * float(summary['mean']):.2f}{spread} %"
