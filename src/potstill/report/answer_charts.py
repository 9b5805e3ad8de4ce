"""Charts of the answers: confusion, change per class, calibration, residuals.

Shapes: N samples, C classes (or labels), O regression outputs.
"""

import numpy as np

from potstill.report import answers as counting
from potstill.report import wording
from potstill.report.answers import Answers, Floats, Ints
from potstill.report.figures import (
    Chart,
    Part,
    axis,
    guide,
    marker,
    named_axis,
    shortened,
    text,
)
from potstill.report.value_charts import predicted_chart, residual_chart

MAX_MATRIX = 20  # classes; more than that are shown by their largest confusions
_MOST_NUMBERED = 12  # classes whose cells have room for numbers
_SHOWN_CLASSES = 20


def answer_charts(answers: Answers) -> list[Chart]:
    """The charts that fit the kind of targets, in reading order."""
    if answers.kind in ("tokens", "transcript"):
        return []
    if answers.kind == "regression":
        return [predicted_chart(answers), residual_chart(answers)]
    if answers.kind == "multi_label":
        scores = {role: counting.label_f1(answers, role) for role in answers.main_roles}
        made = [_per_class(answers, "F1", scores)]
    else:
        counts = {role: counting.confusion(answers, role) for role in answers.main_roles}
        recalls = {role: counting.recall(counts_CC) for role, counts_CC in counts.items()}
        small = len(answers.names) <= MAX_MATRIX
        confusion = _matrix if small else _top_confusions
        made = [confusion(answers, counts), _per_class(answers, "recall", recalls)]
    return [chart for chart in made if chart is not None]


def _matrix(answers: Answers, counts: dict[str, Floats]) -> Chart | None:
    """Mistakes are coloured; what is right stands as a number, so that it does not drown them."""
    role = "distilled" if "distilled" in counts else answers.main_roles[-1]
    counts_CC = counts[role]
    names = answers.names
    said = [[_cell(value) for value in row] for row in counts_CC]
    seeds = len(answers.by_role[role])
    mean = f", mean of {seeds} seeds" if seeds > 1 else ""
    plain = {"showgrid": False, "showline": False}
    turned = {**plain, "autorange": "reversed"}
    rows_shown, worst = _confusion_rows(answers, counts)
    return Chart(
        key="confusion",
        title=f"What the {role} student confuses" if role != "teacher" else "What it confuses",
        note=f"Samples by true class (rows) and answer (columns){mean}. The stronger the "
        f"colour, the larger the part of the class that is mistaken; the diagonal is right. "
        f"{worst}",
        traces=[_mistakes(counts_CC, said, names), _diagonal(said)],
        layout={
            "xaxis": named_axis(names, plain, title="Answer", limit=12),
            "yaxis": named_axis(names, turned, title="True class", limit=12),
        },
        height=max(340, 90 + 36 * len(names)),
        columns=_CONFUSION_COLUMNS,
        rows=rows_shown,
    )


def _mistakes(counts_CC: Floats, said: list[list[str]], names: tuple[str, ...]) -> Part:
    """What is wrong, coloured by its share of the true class."""
    shares = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1e-9)
    wrong = np.where(np.eye(len(shares), dtype=bool), np.nan, shares)
    hover = [
        [
            f"true {text(a)}, said {text(b)}<br>{share:.1%} of the class"
            for b, share in zip(names, row, strict=True)
        ]
        for a, row in zip(names, shares, strict=True)
    ]
    return {
        "type": "heatmap",
        "z": wrong.tolist(),
        "text": said,
        "texttemplate": "%{text}" if len(names) <= _MOST_NUMBERED else "",
        "hovertext": hover,
        "hoverinfo": "text",
        "colorscale": [[0, "var(--heat-0)"], [0.5, "var(--heat-1)"], [1, "var(--heat-2)"]],
        "zmin": 0,
        "zmax": float(np.nanmax(wrong, initial=0.0)) or 1.0,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": True,
    }


def _diagonal(said: list[list[str]]) -> Part:
    """The right answers, as quiet numbers."""
    places = range(len(said))
    return {
        "type": "heatmap",
        "z": [[0 if a == b else None for b in places] for a in places],
        "text": [[said[a][b] if a == b else "" for b in places] for a in places],
        "texttemplate": "%{text}" if len(said) <= _MOST_NUMBERED else "",
        "textfont": {"color": "var(--muted)"},
        "colorscale": [[0, "var(--card)"], [1, "var(--card)"]],
        "showscale": False,
        "hoverinfo": "skip",
        "xgap": 2,
        "ygap": 2,
    }


_CONFUSION_COLUMNS = ("True class", "Answer", "Distilled", "Scratch")


def _cell(value: float) -> str:
    if value == 0:
        return ""
    return f"{value:.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"


def _confusion_rows(
    answers: Answers, counts: dict[str, Floats]
) -> tuple[tuple[tuple[str, ...], ...], str]:
    """The most frequent mistakes as rows of a table, and the first one as a sentence."""
    role = "distilled" if "distilled" in counts else answers.main_roles[-1]
    mistakes = counts[role] * (1 - np.eye(len(counts[role])))
    pairs = np.dstack(np.unravel_index(np.argsort(-mistakes, axis=None)[:20], mistakes.shape))[0]
    rows = tuple(
        (
            answers.names[a],
            answers.names[b],
            _times(mistakes[a, b]),
            _times(counts["scratch"][a, b]) if "scratch" in counts else wording.NONE,
        )
        for a, b in pairs
        if mistakes[a, b] > 0
    )
    if not rows:
        return (), "There is no mistake."
    return rows, f"Most often, {rows[0][0]} is taken for {rows[0][1]} ({rows[0][2]}×)."


def _times(value: float) -> str:
    """How often, as a mean over seeds."""
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def _top_confusions(answers: Answers, counts: dict[str, Floats]) -> Chart | None:
    """The twenty largest confusions as bars, where a matrix would be too large to read."""
    rows, worst = _confusion_rows(answers, counts)
    if not rows:
        return None
    names = [" → ".join(shortened(name, limit=17) for name in row[:2]) for row in rows]
    traces: list[Part] = []
    for column, role in ((3, "scratch"), (2, "distilled")):
        if rows[0][column] != wording.NONE:
            said = [float(row[column]) for row in rows]
            hover = f"{wording.role_name(role)}: %{{x:.1f}} times<extra></extra>"
            points = {"x": said, "y": list(range(len(rows)))}
            points = {**points, "marker": marker(role), "hovertemplate": hover}
            traces.append({"type": "scatter", "mode": "markers", "cliponaxis": False, **points})
    return Chart(
        key="confusion",
        title=f"The {len(rows)} most frequent mistakes of {len(answers.names):,} classes",
        note=f"True class → answer, in samples of the test data. {worst}",
        traces=traces,
        layout={
            "xaxis": axis("Samples", {"rangemode": "tozero"}),
            "yaxis": named_axis(names, {"autorange": "reversed"}, limit=40),
        },
        height=90 + 24 * len(rows),
        columns=_CONFUSION_COLUMNS,
        rows=rows,
    )


def _per_class(answers: Answers, measure: str, scores: dict[str, Floats]) -> Chart | None:
    """One row a class with a marker for each role, ordered by what distillation changed."""
    if "distilled" not in scores:
        return None
    reference = scores.get("scratch", scores["distilled"])
    change = np.nan_to_num(scores["distilled"] - reference)
    order = np.argsort(change, kind="stable")
    if len(order) > _SHOWN_CLASSES:
        half = _SHOWN_CLASSES // 2
        order = np.concatenate([order[:half], order[-half:]])
    names = [answers.names[i] for i in order]
    traces: list[Part] = [_links(scores, order)] if "scratch" in scores else []
    for role, values in scores.items():
        hover = f"%{{customdata}}<br>{wording.role_name(role)}: %{{x:.1%}}<extra></extra>"
        points = {"x": _clean(values[order]), "y": list(range(len(order)))}
        said = {"customdata": [text(name) for name in names], "hovertemplate": hover}
        style = {"marker": marker(role, size=10), "cliponaxis": False}
        traces.append({"type": "scatter", "mode": "markers", **points, **said, **style})
    chosen = "" if len(order) == len(change) else f" The {len(order)} largest changes are shown."
    word = "label" if answers.kind == "multi_label" else "class"
    return Chart(
        key="classes",
        title=_class_title(change, word),
        note=f"{measure.capitalize()} of each {word}, ordered by the change from scratch to "
        f"distilled.{chosen}",
        traces=traces,
        layout={
            "xaxis": axis(measure.capitalize(), {"tickformat": ".3~%"}),
            "yaxis": named_axis(names),
        },
        height=max(320, 100 + 26 * len(order)),
        columns=(word.capitalize(), *(wording.role_name(r) for r in scores), "Change"),
        rows=tuple(_class_row(answers.names[i], scores, int(i), change[i]) for i in order[::-1]),
    )


def _links(scores: dict[str, Floats], order: Ints) -> Part:
    """A line from scratch to distilled in every row."""
    x: list[float | None] = []
    y: list[float | None] = []
    for place, i in enumerate(order):
        x += [_number(scores["scratch"][i]), _number(scores["distilled"][i]), None]
        y += [place, place, None]
    return guide(x, y, width=3)


def _class_title(change: Floats, word: str) -> str:
    words = word + ("es" if word == "class" else "s")
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    same = len(change) - better - worse
    return f"{better} {words} better than scratch, {worse} worse" + f", {same} equal" * (same > 0)


def _class_row(name: str, scores: dict[str, Floats], i: int, change: float) -> tuple[str, ...]:
    shown = (wording.score(_number(v[i]), metric="recall") for v in scores.values())
    return (name, *shown, wording.signed(float(change), metric="recall"))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _clean(values: Floats) -> list[float | None]:
    return [_number(value) for value in values]
