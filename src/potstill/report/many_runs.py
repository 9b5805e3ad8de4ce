"""Many runs in one picture: quality against latency, every model a point."""

import math
from collections.abc import Sequence

from potstill.report import wording
from potstill.report.figures import Chart, Part, axis, marker, score_axis, text
from potstill.report.records import ROLES, ModelResult, Results
from potstill.report.table import conditions

Point = tuple[str, str, ModelResult, float]
"""A run's name, a role, its model and its score."""

COLUMNS = ("Run", "Model", "Score", "Latency p50", "p99", "Size")


def latency_scatters(named: Sequence[tuple[str, Results]]) -> list[Chart]:
    """One picture for each metric: the models of all runs by median latency and test score."""
    groups: dict[str, list[tuple[str, Results]]] = {}
    for name, results in named:
        groups.setdefault(results.primary, []).append((name, results))
    charts = [_scatter(number, members) for number, members in enumerate(groups.values())]
    return [chart for chart in charts if chart is not None]


def _scatter(number: int, members: Sequence[tuple[str, Results]]) -> Chart | None:
    metric, up = members[0][1].primary, members[0][1].higher_is_better
    points = [
        (name, role, model, score)
        for name, results in members
        for role, model in results.models.items()
        if (score := results.score(role).mean) is not None and _p50(model) is not None
    ]
    if len(points) < 2:
        return None
    layout: Part = {
        "xaxis": axis("Median latency of one call", {"type": "log", **_ticks(points)}),
        "yaxis": score_axis(metric),
    }
    roles = dict.fromkeys(role for _, role, _, _ in points)
    best = "up and to the left" if up else "down and to the left"
    return Chart(
        key=f"runs-{number}",
        title=f"{wording.metric_name(metric)} against latency",
        note=f"Every model of every run; better is {best}. Hover, or tap, for the run behind a "
        "point. Latencies compare within one machine and engine alone.",
        traces=[_trace(role, [p for p in points if p[1] == role], metric) for role in roles],
        layout=layout,
        height=420,
        columns=COLUMNS,
        rows=tuple(_row(*point, metric) for point in points),
    )


def _ticks(points: Sequence[Point]) -> Part:
    """Marks at 1, 2 and 5 of every decade that is in use."""
    found = [latency for _, _, model, _ in points if (latency := _p50(model)) is not None]
    low, high = (math.floor(math.log10(value)) for value in (min(found), max(found)))
    marks = [k * 10.0**decade for decade in range(low - 1, high + 2) for k in (1, 2, 5)]
    names = [wording.without_zeros(wording.milliseconds(mark)) for mark in marks]
    return {"tickmode": "array", "tickvals": marks, "ticktext": names}


def _trace(role: str, points: Sequence[Point], metric: str) -> Part:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": wording.role_name(role),
        "x": [_p50(model) for _, _, model, _ in points],
        "y": [score for *_, score in points],
        "marker": marker(role if role in ROLES else "other"),
        "text": [_hover(*point, metric) for point in points],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(name: str, role: str, model: ModelResult, score: float, metric: str) -> str:
    lines = [
        f"<b>{text(name, limit=60)}</b>, {wording.role_name(role).lower()}",
        text(model.description or model.name, limit=70),
        f"{wording.metric_name(metric)} {wording.score(score, metric=metric)}",
        f"{wording.milliseconds(_p50(model))} ({conditions(model)})",
        wording.size(model.bytes),
    ]
    return "<br>".join(line for line in lines if line and line != wording.NONE)


def _row(name: str, role: str, model: ModelResult, score: float, metric: str) -> tuple[str, ...]:
    p99 = None if model.latency_ms is None else model.latency_ms.p99
    return (
        name,
        wording.role_name(role),
        wording.score(score, metric=metric),
        wording.milliseconds(_p50(model)),
        wording.milliseconds(p99),
        wording.size(model.bytes),
    )


def _p50(model: ModelResult) -> float | None:
    return None if model.latency_ms is None else model.latency_ms.p50
