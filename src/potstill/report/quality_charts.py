"""Charts of the scores: against cost, seed by seed, and over the epochs of training."""

import math
from collections.abc import Sequence

from potstill.report import wording
from potstill.report.curves import Curve
from potstill.report.figures import (
    DASHES,
    MARKERS,
    Chart,
    Part,
    axis,
    band,
    color,
    error_bars,
    marker,
    score_axis,
)
from potstill.report.records import ModelResult, Results, Verdict

_LABEL_PLACES = {"scratch": "middle left", "distilled": "middle right"}
_Point = tuple[str, float, float]  # role, cost, score


def cost_chart(results: Results, *, cost: str) -> Chart | None:
    """Quality against `size` or `latency`, one point a role with its interval."""
    points: list[_Point] = []
    for role in results.roles():
        spent, mean = _cost(results.models[role], cost), results.score(role).mean
        if spent and mean is not None:
            points.append((role, spent, mean))
    if len(points) < 2:
        return None
    ticks = log_ticks([spent for _, spent, _ in points])
    show = wording.size if cost == "size" else wording.milliseconds
    short = [wording.without_zeros(show(tick)) for tick in ticks]
    ends = log_range([spent for _, spent, _ in points])
    scale = {"type": "log", "tickvals": ticks, "ticktext": short, "range": ends}
    word = "Size of the weights" if cost == "size" else "Median latency"
    traces = [_cost_point(results, point, shown=show(point[1])) for point in points]
    return Chart(
        key=f"cost-{cost}",
        title=_cost_title(results, points, cost),
        note=f"{wording.metric_name(results.primary)} on the test data with its 95% interval; "
        f"the best corner is {'top' if results.higher_is_better else 'bottom'} left.",
        traces=_dodged(traces, [spent for _, spent, _ in points], width=ends[1] - ends[0]),
        layout={"xaxis": axis(f"{word}, logarithmic", scale), "yaxis": score_axis(results.primary)},
    )


def _cost(model: ModelResult, cost: str) -> float | None:
    if cost == "size":
        return model.bytes
    return model.latency_ms.p50 if model.latency_ms else None


def _cost_title(results: Results, points: Sequence[_Point], cost: str) -> str:
    spent = {role: x for role, x, _ in points}
    if "teacher" not in spent or "distilled" not in spent:
        return f"{wording.metric_name(results.primary)} against {cost}"
    verdict = results.verdict or Verdict()
    known = verdict.compression if cost == "size" else verdict.speedup
    ratio = known or spent["teacher"] / spent["distilled"]
    word = ("smaller", "larger") if cost == "size" else ("faster", "slower")
    factor = wording.times(max(ratio, 1 / ratio))
    return f"The student is {factor} {word[0] if ratio >= 1 else word[1]} than the teacher"


def _cost_point(results: Results, point: _Point, *, shown: str) -> Part:
    role, spent, mean = point
    name, summary = wording.role_name(role), results.score(role)
    said = wording.score(mean, metric=results.primary)
    width = wording.spread(summary, metric=results.primary)
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [spent],
        "y": [mean],
        "marker": marker(role, size=14),
        "text": [f"  {name}  "],
        "textposition": _LABEL_PLACES.get(role, "top center"),
        "textfont": {"color": color(role)},
        "cliponaxis": False,
        "hovertemplate": f"{name}<br>{shown}<br>{said} {width}<extra></extra>",
        **error_bars(summary, role),
    }


def _dodged(traces: list[Part], costs: Sequence[float], *, width: float) -> list[Part]:
    """Scratch and distilled are the same network: drawn a little apart, so both can be seen."""
    for i, trace in enumerate(traces):
        near = 10 ** (0.02 * width)
        twins = [j for j, other in enumerate(costs) if 1 / near < other / costs[i] < near]
        if len(twins) > 1:
            shift = (twins.index(i) - (len(twins) - 1) / 2) * 0.02 * width
            traces[i] = {**trace, "x": [costs[i] * 10**shift]}
    return traces


def log_range(values: Sequence[float]) -> list[float]:
    """Powers of ten around the values, with room for a label on both sides of each."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = 0.42 * max(high - low, 1.0)
    return [low - room, high + room]


def log_ticks(values: Sequence[float]) -> list[float]:
    """Steps of 1, 3, 10, 30 … inside the range, at most five."""
    low, high = log_range(values)
    steps = [base * 10.0**power for power in range(-9, 16) for base in (1, 3)]
    inside = [step for step in steps if low < math.log10(step) < high]
    whole = inside[0::2] if inside[0] == 10 ** round(math.log10(inside[0])) else inside[1::2]
    few = inside if len(inside) <= 5 else whole
    return few[:: max(1, math.ceil(len(few) / 5))]


def seed_chart(results: Results) -> Chart | None:
    """Scratch and distilled of the same seed joined by a line."""
    scratch, distilled = (results.score(role).values for role in ("scratch", "distilled"))
    pairs = [
        (seed, a, b)
        for seed, a, b in zip(results.seeds, scratch, distilled, strict=False)
        if a is not None and b is not None
    ]
    if not pairs:
        return None
    metric, sign = results.primary, 1 if results.higher_is_better else -1
    won = sum(sign * (b - a) > 0 for _, a, b in pairs)
    ends = {"tickvals": [0, 1], "ticktext": ["Scratch", "Distilled"], "range": [-0.4, 1.4]}
    rows = tuple(
        (
            str(seed),
            wording.score(a, metric=metric),
            wording.score(b, metric=metric),
            wording.signed(b - a, metric=metric),
        )
        for seed, a, b in pairs
    )
    return Chart(
        key="seeds",
        title=f"Distilled is better on {won} of {len(pairs)} seed{'s' * (len(pairs) > 1)}",
        note="Each line is one seed: the same first weights and the same budget, "
        "without the teacher (left) and with it (right).",
        traces=[_slope(pair, metric) for pair in pairs],
        layout={
            "xaxis": axis("", {**ends, "showgrid": False}),
            "yaxis": score_axis(metric),
            **_teacher_level(results),
        },
        columns=("Seed", "Scratch", "Distilled", "Difference"),
        rows=rows,
    )


def _slope(pair: tuple[int, float, float], metric: str) -> Part:
    seed, a, b = pair
    colors = [color("scratch"), color("distilled")]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [0, 1],
        "y": [a, b],
        "text": [f"seed {seed}<br>{wording.score(v, metric=metric)}" for v in (a, b)],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": "var(--faint)", "width": 1.5},
        "cliponaxis": False,
        "marker": {
            "size": 12,
            "symbol": [MARKERS["scratch"], MARKERS["distilled"]],
            "color": colors,
            "line": {"width": 2, "color": colors},
        },
    }


def _teacher_level(results: Results) -> Part:
    """A dashed line across the chart at the teacher's score."""
    level = results.score("teacher").mean
    if level is None:
        return {}
    line = {"color": color("teacher"), "width": 1.5, "dash": DASHES["teacher"]}
    ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level}
    label = {
        "xref": "paper",
        "x": 0,
        "y": level,
        "text": "Teacher",
        "showarrow": False,
        "xanchor": "left",
        "yanchor": "bottom",
        "font": {"color": color("teacher")},
    }
    return {"shapes": [{"type": "line", "line": line, **ends}], "annotations": [label]}


def curve_chart(curves: Sequence[Curve], *, metric: str | None) -> Chart | None:
    """Means over seeds with the band from lowest to highest; `metric=None` is the loss."""
    drawn = [curve for curve in curves if curve.epochs]
    if not drawn:
        return None
    name = wording.metric_name(metric) if metric else "Loss"
    note = "Line: mean of the seeds. Band: from the lowest to the highest seed."
    if metric:
        note += " Markers: the epoch that each seed's weights were taken from."
    else:
        note += " The distilled student's loss has the teacher's part in it: compare shapes."
    upright = score_axis(metric, _zoom(drawn)) if metric else _loss_axis(drawn)
    return Chart(
        key="curve-score" if metric else "curve-loss",
        title=f"{name} on the validation data" if metric else "Training loss",
        note=note,
        traces=[trace for c in drawn for trace in _curve_traces(c, selected=metric is not None)],
        layout={"xaxis": axis("Epoch", {"showgrid": False}), "yaxis": upright},
        columns=("Model", "Epochs", "First", "Last", "Best"),
        rows=tuple(_curve_row(curve, metric or "loss") for curve in drawn),
    )


def _zoom(curves: Sequence[Curve]) -> Part:
    """The range of the later epochs, where the first ones would press them together."""
    every = [v for c in curves for seed in c.seeds for v in seed.values]
    later = [v for c in curves for seed in c.seeds for v in seed.values[len(seed.values) // 6 :]]
    reach, full = max(later) - min(later), max(every) - min(every)
    if reach <= 0 or full < 1.5 * reach:
        return {}
    return {"range": [min(later) - 0.08 * reach, max(later) + 0.08 * reach]}


def _loss_axis(curves: Sequence[Curve]) -> Part:
    values = [value for curve in curves for value in curve.mean]
    wide = min(values) > 0 and max(values) / min(values) > 50
    if wide:
        return axis("Loss, logarithmic", {"type": "log", "dtick": 1})
    return axis("Loss", {"rangemode": "tozero"})


def _curve_row(curve: Curve, metric: str) -> tuple[str, ...]:
    best = sum(s.values[s.best] for s in curve.seeds) / len(curve.seeds)
    shown = (wording.score(v, metric=metric) for v in (curve.mean[0], curve.mean[-1], best))
    return (wording.role_name(curve.role), str(max(s.epochs[-1] for s in curve.seeds)), *shown)


def _curve_traces(curve: Curve, *, selected: bool) -> list[Part]:
    line = {"color": color(curve.role), "width": 2.5, "dash": DASHES.get(curve.role, "dashdot")}
    hover = f"{wording.role_name(curve.role)}, epoch %{{x}}<br>%{{y:.4g}}<extra></extra>"
    mean: Part = {
        "type": "scatter",
        "mode": "lines" if len(curve.epochs) > 1 else "markers",
        "x": list(curve.epochs),
        "y": list(curve.mean),
        "line": line,
        "marker": marker(curve.role, size=8),
        "hovertemplate": hover,
    }
    traces = [_band(curve), mean] if len(curve.seeds) > 1 else [mean]
    for seed in curve.seeds:
        rest = [i for i, epoch in enumerate(seed.epochs) if epoch >= curve.epochs[-1]]
        if len(rest) > 1:
            x, y = [seed.epochs[i] for i in rest], [seed.values[i] for i in rest]
            traces.append({**mean, "x": x, "y": y, "line": {**line, "width": 1}})
    if selected:
        x = [s.epochs[s.best] for s in curve.seeds]
        y = [s.values[s.best] for s in curve.seeds]
        style = {"marker": marker(curve.role, size=6), "cliponaxis": False}
        traces.append({**mean, "mode": "markers", "x": x, "y": y, **style})
    return traces


def _band(curve: Curve) -> Part:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*curve.epochs, *reversed(curve.epochs)],
        "y": [*curve.high, *reversed(curve.low)],
        "fill": "toself",
        "fillcolor": band(curve.role),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
