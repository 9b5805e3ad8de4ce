"""Charts: plotly takes every one, and they show the numbers they are made from."""

import json
import re
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest

from potstill.report import answer_charts, confidence_charts, quality_charts
from potstill.report.answers import Answers, read_answers
from potstill.report.curves import Curve, role_curves
from potstill.report.figures import Chart, color, marker, shortened, text
from potstill.report.folder import Logged, RunFolder
from potstill.report.page import charts_of, finite
from potstill.report.records import Results

KINDS = ("image", "table", "signal", "regression", "many")
RunOf = Callable[[str], RunFolder]


def every_chart(run: RunFolder) -> list[Chart]:
    return [chart for group in charts_of(run, read_answers(run)).values() for chart in group]


def results_of(run: RunFolder) -> Results:
    assert run.results is not None
    return run.results


def answers_of(run: RunFolder) -> Answers:
    found = read_answers(run)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_plotly_takes_every_chart(run_of: RunOf, kind: str) -> None:
    for chart in every_chart(run_of(kind)):
        drawn = json.dumps(finite({"data": chart.traces, "layout": chart.layout}), allow_nan=False)
        coloured = re.sub(r"var\(--[a-z0-9-]+\)", "#336699", drawn)

        figure = go.Figure(json.loads(coloured))  # refuses unknown names and values

        assert len(figure.data) == len(chart.traces) > 0
        assert chart.title
        assert chart.note


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("image", {"confusion", "classes", "calibration", "confidence"}),
        ("many", {"confusion", "classes", "calibration", "confidence"}),
        ("signal", {"classes", "calibration", "confidence"}),
        ("regression", {"predicted", "residuals"}),
    ],
)
def test_each_kind_of_target_has_its_charts(run_of: RunOf, kind: str, keys: set[str]) -> None:
    found = {chart.key for chart in every_chart(run_of(kind))}

    assert found == keys | {"cost-size", "cost-latency", "seeds", "curve-score", "curve-loss"}


def test_roles_differ_without_colour() -> None:
    symbols = {marker(role)["symbol"] for role in ("teacher", "scratch", "distilled")}

    assert len(symbols) == 3
    assert color("pruned") == "var(--other)"


def test_the_seed_chart_joins_what_belongs_together(run_of: RunOf) -> None:
    results = results_of(run_of("image"))

    chart = quality_charts.seed_chart(results)

    assert chart is not None
    pairs = zip(results.score("scratch").values, results.score("distilled").values, strict=True)
    assert [trace["y"] for trace in chart.traces] == [[a, b] for a, b in pairs]
    assert len(chart.rows) == len(results.seeds)


def test_the_cost_chart_says_the_ratio_and_shows_the_interval(run_of: RunOf) -> None:
    results = results_of(run_of("image"))

    chart = quality_charts.cost_chart(results, cost="size")

    assert chart is not None
    assert chart.title == "The student is 28.3× smaller than the teacher"
    bars = {str(t["text"][0]).strip(): t.get("error_y") for t in chart.traces}
    assert bars["Teacher"] is None  # one seed
    ci95 = results.score("scratch").ci95
    assert ci95 is not None
    assert bars["Scratch"]["array"][0] == pytest.approx(ci95[1] - results.score("scratch").mean)


def test_students_of_one_cost_are_drawn_beside_each_other(run_of: RunOf) -> None:
    chart = quality_charts.cost_chart(results_of(run_of("image")), cost="size")

    assert chart is not None
    at = {str(t["text"][0]).strip(): t["x"][0] for t in chart.traces}
    assert at["Scratch"] < 338_472 < at["Distilled"] < 1.15 * at["Scratch"]
    assert at["Teacher"] == 9_580_840


def test_a_cost_that_only_one_role_has_is_not_drawn(run_of: RunOf) -> None:
    results = results_of(run_of("image"))
    alone = {r: m.model_copy(update={"latency_ms": None}) for r, m in results.models.items()}
    alone["scratch"] = results.models["scratch"]

    found = quality_charts.cost_chart(results.model_copy(update={"models": alone}), cost="latency")

    assert found is None


def test_the_matrix_colours_mistakes_only(run_of: RunOf) -> None:
    answers = answers_of(run_of("image"))

    matrix = answer_charts.answer_charts(answers)[0].traces[0]

    shares = np.array(matrix["z"], dtype=np.float64)
    assert np.isnan(np.diag(shares)).all()
    assert matrix["zmax"] == np.nanmax(shares)
    assert matrix["text"][0][0] == "60"


def test_a_model_without_mistakes_is_drawn_too() -> None:
    logits = np.eye(3) * 9
    answers = Answers(
        ids=np.arange(3),
        labels=np.arange(3.0),
        kind="single_label",
        names=("a", "b", "c"),
        by_role={"distilled": {0: logits}},
    )

    confusion, *_ = answer_charts.answer_charts(answers)

    assert "no mistake" in confusion.note
    assert confusion.traces[0]["zmax"] == 1.0


def test_a_thousand_classes_are_shown_by_their_twenty_largest(run_of: RunOf) -> None:
    confusion, classes = answer_charts.answer_charts(answers_of(run_of("many")))

    assert len(confusion.rows) == 20
    assert len(classes.rows) == 20
    assert "1,000 classes" in confusion.title
    assert len(json.dumps(finite([confusion.traces, classes.traces]))) < 50_000


def test_names_that_look_alike_when_cut_keep_their_own_rows(run_of: RunOf) -> None:
    _, classes = answer_charts.answer_charts(answers_of(run_of("many")))

    assert classes.layout["yaxis"]["tickvals"] == list(range(20))
    assert len(set(classes.layout["yaxis"]["ticktext"])) == 20
    assert shortened("a class with a long name, number 17", limit=15) == "a class …ber 17"


def test_names_from_data_are_escaped_for_plotly() -> None:
    assert text("<b>x</b> & y") == "&lt;b&gt;x&lt;/b&gt; &amp; y"


def test_classes_are_ordered_by_the_change(run_of: RunOf) -> None:
    _, classes = answer_charts.answer_charts(answers_of(run_of("image")))
    change = [float(row[-1].replace("−", "-")) for row in classes.rows]

    assert change == sorted(change, reverse=True)


def test_thin_bins_are_left_out_of_the_reliability_diagram(run_of: RunOf) -> None:
    chart, _ = confidence_charts.confidence_charts(answers_of(run_of("image")))

    counts = [n for trace in chart.traces for n in trace.get("customdata", [])]
    assert min(counts) >= 5
    assert sum(int(row[3].replace(",", "")) for row in chart.rows if row[0] == "Distilled") == 3000


def curve_of(values: dict[int, list[float]], *, up: bool = True) -> Curve:
    lines = [
        Logged(role="scratch", seed=seed, epoch=epoch, split="validation", loss=None,
               metrics={"accuracy": value})
        for seed, row in values.items()
        for epoch, value in enumerate(row, 1)
    ]  # fmt: skip
    (curve,) = role_curves(lines, split="validation", metric="accuracy", higher_is_better=up)
    return curve


def test_a_band_reaches_as_far_as_the_shortest_seed() -> None:
    curve = curve_of({0: [0.1, 0.5, 0.4], 1: [0.3, 0.7]})

    assert curve.epochs == (1, 2)
    assert curve.mean == pytest.approx((0.2, 0.6))
    assert (curve.low, curve.high) == ((0.1, 0.5), (0.3, 0.7))


def test_the_best_epoch_is_the_first_of_equals_in_the_right_direction() -> None:
    values = {0: [0.3, 0.1, 0.5, 0.1, 0.5]}

    assert curve_of(values).seeds[0].best == 2
    assert curve_of(values, up=False).seeds[0].best == 1


def test_the_epoch_that_was_selected_is_marked_where_it_is_known() -> None:
    lines = [
        Logged(role="scratch", seed=0, epoch=epoch, split="validation", loss=None,
               metrics={"accuracy": value})
        for epoch, value in enumerate([0.3, 0.9, 0.9], 1)
    ]  # fmt: skip

    (curve,) = role_curves(lines, split="validation", metric="accuracy", higher_is_better=True,
                           selected={"scratch": {0: 3}})  # fmt: skip

    assert curve.seeds[0].best == 2


def test_the_longer_seed_goes_on_as_a_thin_line() -> None:
    chart = quality_charts.curve_chart(
        [curve_of({0: [0.1, 0.5, 0.4], 1: [0.3, 0.7]})], metric="accuracy"
    )

    assert chart is not None
    assert [trace["x"] for trace in chart.traces if trace["line"]["width"] == 1] == [[2, 3]]


@pytest.mark.parametrize("values", [[338e3, 9.58e6], [1.0, 1.0], [3e-4, 2e9], [5.0, 5.5]])
def test_marks_of_a_logarithmic_axis_are_few_and_inside(values: list[float]) -> None:
    ticks = quality_charts.log_ticks(values)
    low, high = quality_charts.log_range(values)

    assert 1 <= len(ticks) <= 5
    assert all(10**low < tick < 10**high for tick in ticks)
    assert 10**low < min(values) <= max(values) < 10**high
