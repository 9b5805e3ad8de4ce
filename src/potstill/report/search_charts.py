"""Charts of a search: the Pareto front with its recipes, and which knobs matter."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.report import wording
from potstill.report.figures import Chart, Part, axis, score_axis, shortened
from potstill.report.quality_charts import log_range, log_ticks
from potstill.report.search_records import (
    COSTS,
    columns_of,
    cost_of,
    excerpt,
    rows,
    score_of,
    trial_of,
    value_of,
)

HOVER_LINES = 14


def front_chart(found: Mapping[str, Any]) -> Chart | None:
    """Score against cost: all that were trained, the front as steps, the point to take."""
    done = [t for t in found["trials"] if t["state"] == "done"]
    if not done:
        return None
    on_front = [trial_of(found, number) for number in found["front"]]
    best, own = found["recommended"]["trial"], found["own"]
    rest = [t for t in done if t not in on_front and t["number"] != own]
    word, show = COSTS[found["axis"]]
    costs = [value_of(found, t) for t in done]
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
        mine = [trial_of(found, own)]
        traces.append(
            _points(found, mine, name="own", color="var(--scratch)", symbol="square-open", size=13)
        )
    chosen = [trial_of(found, best)]
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
        columns=columns_of(found),
        rows=tuple(r.cells for r in rows(found, [t["number"] for t in done])),
    )


def _steps(found: Mapping[str, Any], on_front: Sequence[Mapping[str, Any]]) -> Part:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [value_of(found, t) for t in on_front],
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
        "x": [value_of(found, t) for t in trials],
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
    if len(lines) > HOVER_LINES:
        lines = [*lines[:HOVER_LINES], "…"]
    head = f"<b>trial {trial['number']}</b>: {score_of(found, trial)}, {cost_of(found, trial)}"
    return "<br>".join([head, *(_escaped(line) for line in lines)])


def _escaped(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    said = shortened(line.strip(), limit=60)
    return "&nbsp;" * indent + said.replace("&", "&amp;").replace("<", "&lt;")


def importance_charts(found: Mapping[str, Any]) -> list[Chart]:
    """How much each knob matters: for the score, and for the cost."""
    titles = {
        "score": f"What moves {wording.metric_name(found['primary']).lower()}",
        "cost": f"What moves {COSTS[found['axis']][0].lower()}",
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
