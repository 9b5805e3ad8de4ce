"""Lays a run out as one HTML page that needs nothing but itself: no network, no other file."""

import base64
import gzip
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from plotly.offline import get_plotlyjs

from potstill.report import table, wording
from potstill.report.answer_charts import answer_charts
from potstill.report.answers import Answers, read_answers
from potstill.report.boxes import find_boxes
from potstill.report.chains import CHAIN_COLUMNS, chain_rows, exit_chart
from potstill.report.classes import COLUMNS, class_tables
from potstill.report.confidence_charts import confidence_charts
from potstill.report.curves import role_curves
from potstill.report.devices import device_tables, devices_of
from potstill.report.disagreements import find_disagreements
from potstill.report.dots import score_dots
from potstill.report.figures import Chart, Part
from potstill.report.folder import RunFolder, Stage
from potstill.report.quality_charts import cost_chart, curve_chart, seed_chart
from potstill.report.records import ROLES, Json, Latency, ModelResult, Results, Verdict
from potstill.report.rules import rules_of
from potstill.report.squeezed import LAYER_COLUMNS, squeezed_of
from potstill.report.year import Assumptions, year_table

DONE = ("done", "finished")  # states of a stage that needs no more work


@dataclass(frozen=True, kw_only=True)
class Key:
    """One of the numbers under the verdict."""

    label: str
    value: str
    small: str = ""


def render_page(run: RunFolder, *, year: Assumptions | None = None) -> str:
    """The report of a run as HTML; `year` says what a year of predictions is like."""
    results = run.results or Results(name=run.path.name)
    answers = read_answers(run)
    charts = charts_of(run, answers)
    figures: dict[str, Part] = {
        chart.key: {"data": chart.traces, "layout": {**chart.layout, "height": chart.height}}
        for group in charts.values()
        for chart in group
    }
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            results=results,
            finished=run.results is not None,
            headline=wording.without_details(headline_of(run)),
            dots=score_dots(results),
            keys=key_figures(results),
            rows=table.side_by_side(results),
            chain=chain_rows(results),
            chain_columns=CHAIN_COLUMNS,
            descriptions=descriptions_of(results),
            charts=charts,
            figures=finite(figures),
            plotly=packed_plotly() if figures else "",
            devices=device_tables(devices_of(run)),
            year=year_table(run, year),
            classes=class_tables(results),
            class_columns=COLUMNS,
            rules=rules_of(results),
            squeezed=squeezed_of(run.compressed),
            layer_columns=LAYER_COLUMNS,
            disagreements=find_disagreements(run, answers) if answers else None,
            gallery=find_boxes(run),
            facts=facts_of(run),
            stages=stages_of(run),
            glossary=wording.GLOSSARY,
        )
    )


def charts_of(run: RunFolder, answers: Answers | None) -> dict[str, list[Chart]]:
    """The charts of each part of the page; what there is nothing to draw of is left out."""
    results = run.results or Results(name=run.path.name)
    return {
        "cost": _made(
            cost_chart(results, cost="size"),
            cost_chart(results, cost="latency"),
            exit_chart(results),
        ),
        "seeds": _made(seed_chart(results)),
        "curves": _curve_charts(run, results),
        "answers": answer_charts(answers) if answers else [],
        "confidence": confidence_charts(answers) if answers else [],
    }


def environment() -> Environment:
    """The templates, with escaping on and the words of `wording` as filters."""
    made = Environment(
        loader=PackageLoader("potstill.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.filters |= {
        "role_name": wording.role_name,
        "metric_name": wording.metric_name,
        "share": wording.share,
    }
    return made


def finite(part: object) -> object:
    """The same part of a figure with null for every number that JSON does not know."""
    if isinstance(part, float):
        return part if math.isfinite(part) else None
    if isinstance(part, Mapping):
        return {key: finite(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [finite(value) for value in part]
    return part


@cache
def packed_plotly() -> str:
    """The drawing library, compressed: the page unpacks it, and is a third of the size."""
    squeezed = gzip.compress(get_plotlyjs().encode("utf-8"), compresslevel=9, mtime=0)
    return base64.b64encode(squeezed).decode("ascii")


def _made(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _curve_charts(run: RunFolder, results: Results) -> list[Chart]:
    selected_by, up = results.selection()
    primary = selected_by or _first_metric(run)
    scores = role_curves(
        run.history,
        split="validation",
        metric=primary,
        higher_is_better=up,
        selected=results.selected_epochs(),
    )
    losses = role_curves(run.history, split="train", metric=None, higher_is_better=False)
    return _made(
        curve_chart(scores, metric=primary) if primary else None, curve_chart(losses, metric=None)
    )


def _first_metric(run: RunFolder) -> str:
    """Of an unfinished run, the first metric that was logged."""
    return next((name for line in run.history for name in line.metrics), "")


def headline_of(run: RunFolder) -> str:
    """The verdict in a sentence, or how far an unfinished run came."""
    if run.results is not None:
        return wording.headline(run.results.verdict, metric=run.results.primary)
    open_stages = [stage.name for stage in run.stages if stage.state not in DONE]
    where = f" It stopped at: {open_stages[0]}." if open_stages else ""
    return f"This run has not finished, so there is no verdict yet.{where}"


def key_figures(results: Results) -> tuple[Key, ...]:
    """The numbers that the verdict stands on; those that are not known are left out."""
    verdict, metric = results.verdict, results.primary
    if verdict is None:
        return ()
    gain = f"{wording.signed(verdict.gain, metric=metric)} {wording.unit(metric)}"
    keys = (
        (
            "Gain over scratch",
            gain if verdict.gain is not None else wording.NONE,
            wording.interval(verdict.gain_ci95, metric=metric),
        ),
        ("Could it be chance?", wording.p_value(verdict.p_value), _test(verdict)),
        ("Gap recovered", wording.share(verdict.gap_recovered), "from scratch to teacher"),
        ("Retention", wording.share(verdict.retention), "of the teacher's score"),
        ("Agreement", wording.share(verdict.agreement), "same answer as the teacher"),
        ("Speed-up", wording.times(verdict.speedup), _instead(results, "p50")),
        ("Compression", wording.times(verdict.compression), _instead(results, "bytes")),
    )
    return tuple(
        Key(label=label, value=value, small="" if small == wording.NONE else small)
        for label, value, small in keys
        if value != wording.NONE
    )


def _test(verdict: Verdict) -> str:
    limit = f"counts below {verdict.alpha:g}" if verdict.alpha else ""
    return ", ".join(part for part in (verdict.test, limit) if part)


def _instead(results: Results, what: str) -> str:
    """`338 kB instead of 9.58 MB`, or only against whom if one is not known."""
    said = []
    for role in ("distilled", "teacher"):
        model = results.models.get(role, ModelResult())
        taken = model.latency_ms or Latency()
        shown = wording.size(model.bytes) if what == "bytes" else wording.milliseconds(taken.p50)
        said.append(shown)
    return "against the teacher" if wording.NONE in said else " instead of ".join(said)


def descriptions_of(results: Results) -> list[tuple[str, str]]:
    """What each model is; the student once, if both students are described alike."""
    said = {role: m.description or m.name for role, m in results.models.items()}
    if "scratch" in said and said.get("distilled") == said["scratch"]:
        named = {"Teacher": said.get("teacher", ""), "Student": said["scratch"]}
        rest = {wording.role_name(r): said[r] for r in results.roles() if r not in ROLES}
        named |= rest
    else:
        named = {wording.role_name(role): said[role] for role in results.roles()}
    return [(name, words) for name, words in named.items() if words]


def facts_of(run: RunFolder) -> list[tuple[str, str]]:
    """The environment as lines; what belongs together stands in one."""
    return [
        (name.replace("_", " "), _said(value))
        for name, value in run.environment.items()
        if name != "format" and value not in (None, [], {}, "")
    ]


def _said(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_said(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(_said(each) for each in value)
    return str(value)


def stages_of(run: RunFolder) -> list[tuple[str, str]]:
    """The stages as lines; the seeds of a role (`scratch/0`, `scratch/1`, …) stand in one."""
    groups: dict[str, list[Stage]] = {}
    for stage in run.stages:
        groups.setdefault(stage.name.partition("/")[0], []).append(stage)
    return [(name, _progress(stages)) for name, stages in groups.items()]


def _progress(stages: list[Stage]) -> str:
    states = [stage.state for stage in stages]
    state = states[0]
    if len(stages) > 1:
        done = sum(s in DONE for s in states)
        state = f"{done} of {len(stages)} seeds done"
    spent = [stage.seconds for stage in stages if stage.seconds is not None]
    return f"{state}, {wording.seconds(sum(spent))}" if spent else state
