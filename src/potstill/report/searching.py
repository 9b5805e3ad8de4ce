"""The page of a search: what was tried, the Pareto front, the point to take, which knobs matter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.errors import StorageError
from potstill.report import wording
from potstill.report.figures import Part
from potstill.report.folder import FORMAT
from potstill.report.page import environment, finite, packed_plotly
from potstill.report.search_charts import front_chart, importance_charts
from potstill.report.search_records import (
    columns_of,
    cost_of,
    name_of,
    rows,
    score_of,
    trial_of,
    value_of,
)
from potstill.report.writing import write_text
from potstill.runtime.files import read_json


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
            columns=columns_of(found),
            front=rows(found, found["front"]),
            tried=rows(found, [t["number"] for t in found["trials"] if t["state"] != "refused"]),
            refused=found["counts"]["refused"],
            recipe=trial_of(found, found["recommended"]["trial"])["recipe"],
        )
    )


def headline(found: Mapping[str, Any]) -> str:
    """The recommended student in a sentence."""
    best = trial_of(found, found["recommended"]["trial"])
    metric = wording.metric_name(found["primary"])
    metric = metric if metric[1:2].isupper() else metric.lower()
    said = f"{score_of(found, best)} {metric} on validation data"
    return f"{name_of(best)}: {said} at {cost_of(found, best)}"


def keys(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The numbers under the headline: label, value, small print."""
    counts, teacher = found["counts"], found["teacher"]
    trained = counts["done"] + counts["pruned"]
    best = trial_of(found, found["recommended"]["trial"])
    made = [
        ("Target", found["target"], found["settings"]["runtime"]),
        ("Students trained", str(trained), f"{counts['pruned']} of them given up early"),
        ("Shapes refused", str(counts["refused"]), "measured, not trained"),
        ("Teacher asked", f"{teacher['labelled']:,}", "samples, once, for the store"),
        ("By the trials", f"{teacher['asked_by_trials']:,}", _stored(teacher)),
        ("Time of trials", wording.seconds(found["seconds"]), "all together"),
    ]
    own = None if found["own"] is None else trial_of(found, found["own"])
    if own is not None and own["number"] != best["number"]:
        score = wording.signed(best["score"] - own["score"], metric=found["primary"])
        ratio = value_of(found, own) / value_of(found, best)
        times = wording.times(max(ratio, 1 / ratio))
        word = "cheaper" if ratio >= 1 else "dearer"
        made.append(("Against the recipe's own", score, f"{times} {word}, on validation data"))
    return made


def _stored(teacher: Mapping[str, Any]) -> str:
    return f"answers of the teacher; {teacher['read_from_store']:,} read from the store"
