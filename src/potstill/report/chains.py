"""Who taught whom, link by link, and what early exits are worth: tables and a chart."""

from collections.abc import Sequence

from potstill.report import wording
from potstill.report.figures import MARKERS, Chart, Part, axis, color, score_axis
from potstill.report.records import Exits, ExitScore, ModelResult, Results, RoleExits

CHAIN_COLUMNS = ("Link", "Taught by", "Score", "Parameters", "Training time")
ACCURACY = "accuracy"


def chain_rows(results: Results) -> list[tuple[str, ...]]:
    """A line for each link of a chain, from the teacher to the student."""
    rows: list[tuple[str, ...]] = []
    for link in results.chain:
        model, score = results.models.get(link.role, ModelResult()), results.score(link.role)
        said = wording.score(score.mean, metric=results.primary)
        rows.append(
            (
                wording.role_name(link.role),
                wording.role_name(link.taught_by) if link.taught_by else "labels",
                f"{said} {wording.spread(score, metric=results.primary)}".strip(),
                wording.count(model.parameters),
                wording.seconds(model.train_seconds),
            )
        )
    return rows


def exit_chart(results: Results) -> Chart | None:
    """Accuracy against the mean FLOPs of a sample, as the threshold of the exits moves."""
    exits = results.exits
    if exits is None or not exits.models:
        return None
    scale = {"rangemode": "tozero"}
    return Chart(
        key="exits",
        title=_title(exits),
        note="Samples stop at the first exit whose highest probability reaches a threshold; each "
        "point is one threshold. The large markers are the thresholds chosen on validation data.",
        traces=[t for role, found in exits.models.items() for t in _traces(role, found)],
        layout={"xaxis": axis("FLOPs of a sample, mean", scale), "yaxis": score_axis(ACCURACY)},
        columns=("Exit", "FLOPs", *(wording.role_name(role) for role in exits.models)),
        rows=tuple(exit_rows(exits)),
    )


def exit_rows(exits: Exits) -> list[tuple[str, ...]]:
    """A line for each exit, and one for the threshold that was chosen."""
    rows = []
    for number, (layer, cost) in enumerate(zip(exits.layers, exits.flops, strict=True)):
        name = layer if number == len(exits.layers) - 1 else f"after {layer}"
        scores = (_accuracy(found.exits, number) for found in exits.models.values())
        rows.append((name, wording.count(cost), *scores))
    costs = [wording.count(found.chosen.flops.mean) for found in exits.models.values()]
    chosen = [
        wording.score(found.chosen.accuracy.mean, metric=ACCURACY)
        for found in exits.models.values()
    ]
    return [*rows, ("first sure one", " / ".join(costs), *chosen)]


def _accuracy(exits: Sequence[ExitScore], number: int) -> str:
    return wording.score(exits[number].accuracy.mean, metric=ACCURACY)


def _title(exits: Exits) -> str:
    found = exits.models.get("distilled", RoleExits())
    spent, whole = found.chosen.flops.mean, exits.flops[-1] if exits.flops else None
    if not spent or not whole:
        return "Accuracy against the cost of a sample"
    return f"Stopping at the first sure exit takes {spent / whole:.0%} of the FLOPs"


def _traces(role: str, found: RoleExits) -> list[Part]:
    name = wording.role_name(role)
    line: Part = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [point.flops.mean for point in found.curve],
        "y": [point.accuracy.mean for point in found.curve],
        "text": [f"{name}<br>threshold {point.threshold:g}" for point in found.curve],
        "hovertemplate": "%{text}<br>%{y:.2%}<extra></extra>",
        "line": {"color": color(role), "width": 2},
        "marker": {"color": color(role), "size": 5},
    }
    chosen: Part = {
        "type": "scatter",
        "mode": "markers",
        "x": [found.chosen.flops.mean],
        "y": [found.chosen.accuracy.mean],
        "hovertemplate": f"{name}, threshold chosen<br>%{{y:.2%}}<extra></extra>",
        "marker": {
            "color": color(role),
            "size": 14,
            "symbol": MARKERS.get(role, "circle"),
            "line": {"color": color(role), "width": 2},
        },
    }
    return [line, chosen]
