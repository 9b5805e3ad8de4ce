"""What every chart of the report shares: its words, its axes, how each role is drawn.

A chart is a plotly figure as plain dictionaries. Colours are names of CSS variables, which the
page replaces by those of the current theme, so that one figure serves light and dark. Every role
has its own marker and dash beside its colour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from potstill.report import wording
from potstill.report.records import Summary

Part: TypeAlias = Mapping[str, object]  # a part of a figure: what `json.dumps` takes

MARKERS = {"teacher": "diamond", "scratch": "square-open", "distilled": "circle"}
DASHES = {"teacher": "dash", "scratch": "dot", "distilled": "solid"}
_OTHER_MARKERS = ("triangle-up", "star", "hexagon", "cross")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure, what it shows in words, and the same numbers as a table."""

    key: str
    title: str
    note: str
    traces: Sequence[Part]
    layout: Part
    height: int = 320
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def color(role: str) -> str:
    """The CSS variable of a role's colour."""
    return f"var(--{role})" if role in MARKERS else "var(--other)"


def band(role: str) -> str:
    """The CSS variable of a role's colour, thin enough to lie over others."""
    return color(role).replace(")", "-band)")


def marker(role: str, *, size: int = 11) -> Part:
    """The marker of a role."""
    symbol = MARKERS.get(role) or _OTHER_MARKERS[sum(role.encode()) % len(_OTHER_MARKERS)]
    line = {"color": color(role), "width": 2}
    return {"color": color(role), "size": size, "symbol": symbol, "line": line}


def axis(title: str, settings: Part | None = None) -> Part:
    """An axis in the report's manner: few lines, no zooming, room made by itself."""
    manner = {
        "title": {"text": title, "standoff": 10, "font": {"size": 12.5}},
        "automargin": True,
        "fixedrange": True,
        "zeroline": False,
        "gridcolor": "var(--grid)",
        "linecolor": "var(--rule)",
    }
    return {**manner, **(settings or {})}


def score_axis(metric: str, settings: Part | None = None) -> Part:
    """An axis of a metric, in per cent where that is how it reads."""
    percent = {"tickformat": ".3~%"} if wording.is_fraction(metric) else {}
    return axis(wording.metric_name(metric), {**percent, **(settings or {})})


def error_bars(summary: Summary, role: str) -> Part:
    """The confidence interval as bars; an empty part if there is none."""
    if summary.ci95 is None or summary.mean is None:
        return {}
    low, high = summary.ci95
    bars = {
        "type": "data",
        "array": [high - summary.mean],
        "arrayminus": [summary.mean - low],
        "color": color(role),
        "thickness": 1.5,
        "width": 5,
    }
    return {"error_y": bars}


def shortened(value: str, *, limit: int) -> str:
    """A long name without its middle: names often differ at the end only."""
    if len(value) <= limit:
        return value
    head = (limit - 1) * 3 // 5
    return f"{value[:head]}…{value[head + 1 - limit :]}"


def text(value: str, *, limit: int = 22) -> str:
    """A name that comes from data, cut and escaped: plotly reads some tags in texts."""
    cut = shortened(value, limit=limit)
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def named_axis(
    names: Sequence[str], settings: Part | None = None, *, title: str = "", limit: int = 22
) -> Part:
    """An axis of names at 0, 1, 2, …: names that look alike when cut stay apart."""
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [text(name, limit=limit) for name in names],
        "ticks": "",
        "ticklabelstandoff": 5,
    }
    return axis(title, {**ticks, **(settings or {})})


def guide(x: Sequence[float | None], y: Sequence[float | None], *, width: float = 1.5) -> Part:
    """A quiet line that only leads the eye."""
    line = {"color": "var(--faint)", "width": width}
    path = {"x": list(x), "y": list(y)}
    return {"type": "scatter", "mode": "lines", "line": line, "hoverinfo": "skip", **path}
