"""The page of a search: what was tried, the Pareto front, the point to take, which knobs matter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import yaml

from potstill.errors import StorageError
from potstill.report import wording
from potstill.report.figures import Chart, Part, axis, score_axis, shortened
from potstill.report.folder import FORMAT
from potstill.report.page import environment, finite, packed_plotly
from potstill.report.quality_charts import log_range, log_ticks
from potstill.report.writing import write_text
from potstill.runtime.files import read_json

_COSTS = {
    "latency_ms": ("Latency of a call", wording.milliseconds),
    "bytes": ("Size of the file", wording.size),
    "memory": ("Working memory", wording.size),
    "parameters": ("Parameters", wording.count),
    "flops": ("FLOPs of a sample", wording.count),
}
_HOVER_LINES = 14


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    marks: tuple[str, ...]
    recipe: str


def write_search_report(folder: Path) -> Path:
    """Write `report.html` from the `search.json` of a folder.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    path = folder / "search.json"
    if not path.is_file():
        raise StorageError(
            f"{folder} holds no search.json: it is not the folder of a finished search. Finish it "
            "with `potstill search`, or give another folder."
        )
    page = folder / "report.html"
    write_text(page, render_search(read_json(path)))
    return page


def render_search(found: Mapping[str, Any]) -> str:
    """The page of a search as HTML."""
    assert found.get("format", FORMAT) == FORMAT, "`read_json` has looked"
    charts = [chart for chart in (front_chart(found), *importance_charts(found)) if chart]
    figures: dict[str, Part] = {
        c.key: {"data": c.traces, "layout": {**c.layout, "height": c.height}} for c in charts
    }
    return (
        environment()
        .get_template("search.html.j2")
        .render(
            found=found,
            headline=headline(found),
            keys=keys(found),
            charts=charts,
            figures=finite(figures),
            plotly=packed_plotly(),
            columns=_columns(found),
            front=rows(found, found["front"]),
            tried=rows(found, [t["number"] for t in found["trials"] if t["state"] != "refused"]),
            refused=found["counts"]["refused"],
            recipe=_trial(found, found["recommended"]["trial"])["recipe"],
        )
    )


def headline(found: Mapping[str, Any]) -> str:
    """The recommended student in a sentence."""
    best = _trial(found, found["recommended"]["trial"])
    metric = wording.metric_name(found["primary"])
    metric = metric if metric[1:2].isupper() else metric.lower()
    said = f"{_score(found, best)} {metric} on validation data"
    return f"{_name(best)}: {said} at {_cost(found, best)}"


def keys(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The numbers under the headline: label, value, small print."""
    counts, teacher = found["counts"], found["teacher"]
    trained = counts["done"] + counts["pruned"]
    best = _trial(found, found["recommended"]["trial"])
    made = [
        ("Target", found["target"], found["settings"]["runtime"]),
        ("Students trained", str(trained), f"{counts['pruned']} of them given up early"),
        ("Shapes refused", str(counts["refused"]), "measured, not trained"),
        ("Teacher asked", f"{teacher['labelled']:,}", "samples, once, for the store"),
        ("By the trials", f"{teacher['asked_by_trials']:,}", _stored(teacher)),
        ("Time of trials", wording.seconds(found["seconds"]), "all together"),
    ]
    own = None if found["own"] is None else _trial(found, found["own"])
    if own is not None and own["number"] != best["number"]:
        score = wording.signed(best["score"] - own["score"], metric=found["primary"])
        ratio = _value(found, own) / _value(found, best)
        times = wording.times(max(ratio, 1 / ratio))
        word = "cheaper" if ratio >= 1 else "dearer"
        made.append(("Against the recipe's own", score, f"{times} {word}, on validation data"))
    return made


def _stored(teacher: Mapping[str, Any]) -> str:
    return f"answers of the teacher; {teacher['read_from_store']:,} read from the store"


def front_chart(found: Mapping[str, Any]) -> Chart | None:
    """Score against cost: all that were trained, the front as steps, the point to take."""
    done = [t for t in found["trials"] if t["state"] == "done"]
    if not done:
        return None
    on_front = [_trial(found, number) for number in found["front"]]
    best, own = found["recommended"]["trial"], found["own"]
    rest = [t for t in done if t not in on_front and t["number"] != own]
    word, show = _COSTS[found["axis"]]
    costs = [_value(found, t) for t in done]
    limit = found["limits"].get(found["axis"])
    ticks = log_ticks([*costs, *([limit] if limit else [])])
    ends = log_range([*costs, *([limit] if limit else [])])
    scale = {
        "type": "log",
        "tickvals": ticks,
        "ticktext": [wording.without_zeros(show(tick)) for tick in ticks],
        "range": ends,
    }
    traces: list[Part] = [_steps(found, on_front)]
    traces += [
        _points(found, rest, name="tried", color="var(--faint)", symbol="circle", size=9),
        _points(found, on_front, name="front", color="var(--distilled)", symbol="circle", size=12),
    ]
    if own is not None:
        mine = [_trial(found, own)]
        traces.append(
            _points(found, mine, name="own", color="var(--scratch)", symbol="square-open", size=13)
        )
    chosen = [_trial(found, best)]
    traces.append(
        _points(found, chosen, name="take", color="var(--distilled)", symbol="star", size=19)
    )
    layout: dict[str, object] = {
        "xaxis": axis(f"{word}, logarithmic", scale),
        "yaxis": score_axis(found["primary"]),
    }
    if limit is not None:
        line = {"color": "var(--accent)", "width": 1.5, "dash": "dash"}
        layout["shapes"] = [
            {
                "type": "line",
                "x0": limit,
                "x1": limit,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": line,
            }
        ]
    corner = "top" if found["higher_is_better"] else "bottom"
    return Chart(
        key="front",
        title="What more cost buys",
        note=f"{wording.metric_name(found['primary'])} on validation data; the best corner is "
        f"{corner} left. Orange: the front, with the recommended student as a star. Square: the "
        "recipe's own student. Grey: the others. Dashed: the limit. Hover shows the recipe.",
        traces=[trace for trace in traces if trace.get("x")],
        layout=layout,
        height=460,
        columns=_columns(found),
        rows=tuple(r.cells for r in rows(found, [t["number"] for t in done])),
    )


def _steps(found: Mapping[str, Any], on_front: Sequence[Mapping[str, Any]]) -> Part:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [_value(found, t) for t in on_front],
        "y": [t["score"] for t in on_front],
        "line": {"color": "var(--distilled)", "width": 2, "shape": "hv"},
        "hoverinfo": "skip",
    }


def _points(
    found: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    *,
    name: str,
    color: str,
    symbol: str,
    size: int,
) -> Part:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [_value(found, t) for t in trials],
        "y": [t["score"] for t in trials],
        "marker": {
            "color": color,
            "symbol": symbol,
            "size": size,
            "line": {"color": color, "width": 2},
        },
        "text": [_hover(found, t) for t in trials],
        "hovertemplate": "%{text}<extra></extra>",
        "cliponaxis": False,
    }


def _hover(found: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    """The trial's figures and the part of its recipe that is its own."""
    lines = excerpt(trial["recipe"]).splitlines()
    if len(lines) > _HOVER_LINES:
        lines = [*lines[:_HOVER_LINES], "…"]
    head = f"<b>trial {trial['number']}</b>: {_score(found, trial)}, {_cost(found, trial)}"
    return "<br>".join([head, *(_escaped(line) for line in lines)])


def _escaped(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    said = shortened(line.strip(), limit=60)
    return "&nbsp;" * indent + said.replace("&", "&amp;").replace("<", "&lt;")


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


def importance_charts(found: Mapping[str, Any]) -> list[Chart]:
    """How much each knob matters: for the score, and for the cost."""
    titles = {
        "score": f"What moves {wording.metric_name(found['primary']).lower()}",
        "cost": f"What moves {_COSTS[found['axis']][0].lower()}",
    }
    made = []
    for key, title in titles.items():
        shares = dict(found.get("importance", {}).get(key, {}))
        top = sorted(shares.items(), key=lambda each: each[1])[-10:]
        if top:
            made.append(_bars(f"importance-{key}", title, top))
    return made


def _bars(key: str, title: str, shares: Sequence[tuple[str, float]]) -> Chart:
    names = [name for name, _ in shares]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [share for _, share in shares],
        "y": names,
        "marker": {"color": "var(--other)"},
        "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
    }
    return Chart(
        key=key,
        title=title,
        note="Shares of the importance of all knobs, by PED-ANOVA; a hint, from few trials.",
        traces=[bars],
        layout={"xaxis": axis("Importance", {"tickformat": ".0%"}), "yaxis": axis("")},
        height=90 + 28 * len(names),
        columns=("Knob", "Importance"),
        rows=tuple((name, wording.share(share)) for name, share in reversed(shares)),
    )


def _columns(found: Mapping[str, Any]) -> tuple[str, ...]:
    metric, cost = wording.metric_name(found["primary"]), _COSTS[found["axis"]][0]
    return ("Trial", "Student", "Learns by", metric, cost, "Parameters", "Time")


def rows(found: Mapping[str, Any], numbers: Sequence[int]) -> list[Row]:
    """Trials as lines of a table."""
    made = []
    for number in numbers:
        trial = _trial(found, number)
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
            _name(trial),
            trial["lesson"],
            _score(found, trial),
            _cost(found, trial),
            wording.count(trial["figures"].get("parameters")),
            wording.seconds(trial["seconds"]),
        )
        made.append(Row(cells=cells, marks=tuple(marks), recipe=excerpt(trial["recipe"] or "{}")))
    return made


def _trial(found: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    match: Mapping[str, Any] = next(t for t in found["trials"] if t["number"] == number)
    return match


def _name(trial: Mapping[str, Any]) -> str:
    said = str(trial["description"])
    return said.partition("), ")[0] + ")" if "), " in said else said.partition(", ")[0]


def _value(found: Mapping[str, Any], trial: Mapping[str, Any]) -> float:
    return float(trial["figures"].get(found["axis"]) or 0.0)


def _cost(found: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    return _COSTS[found["axis"]][1](trial["figures"].get(found["axis"]))


def _score(found: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    return wording.score(trial["score"], metric=found["primary"])
