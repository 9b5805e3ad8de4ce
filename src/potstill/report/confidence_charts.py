"""Charts of confidence: whether it can be believed, and how much of it there is."""

from potstill.report import answers as counting
from potstill.report import wording
from potstill.report.answers import Answers
from potstill.report.figures import DASHES, Chart, Part, axis, color, guide, marker

_FEWEST = 5  # answers in a bin of the reliability diagram


def confidence_charts(answers: Answers) -> list[Chart]:
    """Reliability and the distribution of confidence; none for regression."""
    if answers.kind in ("regression", "transcript"):
        return []
    return [_reliability(answers), _confidence(answers)]


def _lowest(answers: Answers) -> float:
    """The least confidence that an answer can have (drawn as zero for three classes and more)."""
    return 0.5 if answers.kind == "multi_label" or len(answers.names) == 2 else 0.0


def _reliability(answers: Answers) -> Chart:
    """How often each model is right when it says it is this sure."""
    ends = [_lowest(answers), 1.0]
    traces: list[Part] = [guide(ends, ends)]
    rows: list[tuple[str, ...]] = []
    for role in answers.main_roles:
        bins = counting.reliability(answers, role)
        kept = bins.count >= _FEWEST
        seen = {"x": bins.confidence[kept].tolist(), "y": bins.right[kept].tolist()}
        line = {"color": color(role), "width": 2, "dash": DASHES[role]}
        hover = (
            f"{wording.role_name(role)} says %{{x:.1%}}<br>is right %{{y:.1%}} "
            "of %{customdata} times<extra></extra>"
        )
        style = {"line": line, "marker": marker(role, size=9), "hovertemplate": hover}
        many = {"customdata": bins.count[kept].tolist(), "cliponaxis": False}
        traces.append({"type": "scatter", "mode": "lines+markers", **seen, **style, **many})
        rows += [
            (wording.role_name(role), f"{c:.1%}", f"{r:.1%}", f"{n:,}")
            for c, r, n in zip(bins.confidence, bins.right, bins.count, strict=True)
            if n
        ]
    percent = {"tickformat": ".0%", "range": [ends[0] - 0.03, 1.03]}
    return Chart(
        key="calibration",
        title="Can its confidence be believed?",
        note="On the diagonal, a model that says 80% is right 80 times out of 100. "
        f"Below it the model is too sure, above it too modest. "
        f"Bins of fewer than {_FEWEST} answers are left out.",
        traces=traces,
        layout={
            "xaxis": axis("How sure the model says it is", percent),
            "yaxis": axis("How often it is right", percent),
        },
        columns=("Model", "Says", "Is right", "Answers"),
        rows=tuple(rows),
    )


def _confidence(answers: Answers) -> Chart:
    low = _lowest(answers)
    traces: list[Part] = []
    for role in answers.main_roles:
        bins = counting.reliability(answers, role, num_bins=20)
        share = (bins.count / bins.count.sum()).tolist()
        edges = [i / len(share) for i in range(len(share) + 1)]
        first = sum(edge < low for edge in edges)
        line = {"color": color(role), "width": 2, "dash": DASHES[role], "shape": "hv"}
        hover = (
            f"{wording.role_name(role)}: %{{y:.1%}} of the answers from %{{x:.0%}}<extra></extra>"
        )
        points = {"x": edges[first:], "y": [*share, share[-1]][first:]}
        style = {"line": line, "hovertemplate": hover}
        traces.append({"type": "scatter", "mode": "lines", **points, **style})
    return Chart(
        key="confidence",
        title="How much confidence there is",
        note="The share of answers that are given with this much confidence, all seeds together. "
        "A student of soft targets is often less sure, and may be the more honest for it.",
        traces=traces,
        layout={
            "xaxis": axis("How sure the model says it is", {"tickformat": ".0%"}),
            "yaxis": axis("Share of the answers", {"tickformat": ".0%", "rangemode": "tozero"}),
        },
    )
