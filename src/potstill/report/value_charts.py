"""Charts of regression answers: predicted against true, and how far off they are."""

import numpy as np

from potstill.report import wording
from potstill.report.answers import Answers
from potstill.report.figures import DASHES, Chart, Part, axis, color, guide, marker

MAX_POINTS = 1500  # of a scatter plot


def predicted_chart(answers: Answers) -> Chart:
    """Predicted against true values of the first output."""
    seed = answers.first_seed()
    truth = answers.labels[:, 0].astype(np.float64)
    step = max(1, len(truth) // MAX_POINTS)
    ends = [float(truth.min()), float(truth.max())]
    traces: list[Part] = []
    for role in ("teacher", "distilled"):
        if role in answers.by_role:
            said = answers.of(role, seed=seed)[::step, 0].tolist()
            style = {**marker(role, size=6), "opacity": 0.4, "line": {"width": 0}}
            hover = f"{wording.role_name(role)}: true %{{x:.4g}}, said %{{y:.4g}}<extra></extra>"
            points = {"x": truth[::step].tolist(), "y": said, "hovertemplate": hover}
            traces.append({"type": "scatter", "mode": "markers", "marker": style, **points})
    traces.append(guide(ends, ends))
    name = answers.names[0]
    return Chart(
        key="predicted",
        title="Predicted against true",
        note=f"Every point is a test sample (seed {seed}, {name}); on the diagonal it is exact.",
        traces=traces,
        layout={"xaxis": axis("True value"), "yaxis": axis("Predicted value")},
    )


def residual_chart(answers: Answers) -> Chart:
    """The distribution of predicted minus true for every role."""
    truth = answers.labels.astype(np.float64)
    errors = {
        role: np.concatenate([(v - truth)[:, 0] for v in answers.by_role[role].values()])
        for role in answers.main_roles
    }
    reach = float(np.percentile(np.abs(np.concatenate(list(errors.values()))), 99)) or 1.0
    edges = np.linspace(-reach, reach, 42)
    traces: list[Part] = []
    rows: list[tuple[str, ...]] = []
    for role, values in errors.items():
        share = np.histogram(values, edges)[0] / len(values)
        line = {"color": color(role), "width": 2, "dash": DASHES[role], "shape": "hv"}
        hover = f"{wording.role_name(role)}: %{{y:.1%}} at %{{x:.3g}}<extra></extra>"
        points = {"x": edges.tolist(), "y": [*share.tolist(), float(share[-1])]}
        style = {"line": line, "hovertemplate": hover}
        traces.append({"type": "scatter", "mode": "lines", **points, **style})
        middle = (f"{np.median(np.abs(values)):.4g}", f"{np.percentile(np.abs(values), 95):.4g}")
        rows.append((wording.role_name(role), f"{values.mean():.4g}", *middle))
    return Chart(
        key="residuals",
        title="How far off the answers are",
        note="Predicted minus true, all seeds together; the narrower around zero, the better.",
        traces=traces,
        layout={
            "xaxis": axis(
                "Predicted minus true", {"zeroline": True, "zerolinecolor": "var(--faint)"}
            ),
            "yaxis": axis("Share of the answers", {"tickformat": ".0%", "rangemode": "tozero"}),
        },
        columns=("Model", "Mean error", "Median |error|", "95% within"),
        rows=tuple(rows),
    )
