"""Several runs beside each other: as rows for a terminal, as Markdown, as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.errors import StorageError
from potstill.report import wording
from potstill.report.dots import Dot, Scale
from potstill.report.figures import Part
from potstill.report.folder import RunFolder, read_folder
from potstill.report.many_runs import latency_scatters
from potstill.report.markdown import escape, markdown_table
from potstill.report.page import environment, finite, packed_plotly
from potstill.report.records import ROLES, ModelResult, Results, Verdict
from potstill.report.writing import write_text

COLUMNS = (
    "Run",
    "Metric",
    "Teacher",
    "Scratch",
    "Distilled",
    "Gain",
    "p",
    "Helped",
    "Gap recovered",
    "Retention",
    "Speed-up",
    "Compression",
    "Latency",
    "Size",
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side. `rows` hold one text for each of `columns`, ready for a terminal."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    summary: str
    notes: tuple[str, ...]
    markdown: str
    html: str

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write `comparison.html` and `comparison.md` into a folder.

        Raises:
            StorageError: the folder cannot be written to.
        """
        html, markdown = folder / "comparison.html", folder / "comparison.md"
        write_text(html, self.html)
        write_text(markdown, self.markdown)
        return html, markdown


def compare(run_folders: Sequence[Path]) -> Comparison:
    """Put runs beside each other in the given order; runs without results are named as such.

    Raises:
        StorageError: no folder was given, or one of them is not a run folder or broken.
    """
    if not run_folders:
        raise StorageError("No run was given to compare. Name at least one run folder.")
    runs = [read_folder(Path(folder)) for folder in run_folders]
    names = _names(runs)
    rows = tuple(_row(name, run.results) for name, run in zip(names, runs, strict=True))
    summary, notes = _summary(runs), tuple(_notes(runs))
    done = [(name, run.results) for name, run in zip(names, runs, strict=True) if run.results]
    charts = latency_scatters(done)
    figures: dict[str, Part] = {
        chart.key: {"data": chart.traces, "layout": {**chart.layout, "height": chart.height}}
        for chart in charts
    }
    return Comparison(
        columns=COLUMNS,
        rows=rows,
        summary=summary,
        notes=notes,
        markdown=_markdown(rows, summary=summary, notes=notes),
        html=environment()
        .get_template("comparison.html.j2")
        .render(
            summary=summary,
            notes=notes,
            columns=COLUMNS,
            rows=rows,
            forests=_forests(names, runs),
            charts=charts,
            roles=list(dict.fromkeys(role for _, each in done for role in each.roles())),
            figures=finite(figures),
            plotly=packed_plotly() if figures else "",
            glossary=wording.GLOSSARY,
        ),
    )


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """The runs' own names, or their folders where two runs share a name."""
    names = [run.results.name if run.results else run.path.resolve().name for run in runs]
    folders = [run.path.resolve().name for run in runs]
    return [
        name if names.count(name) == 1 else folder
        for name, folder in zip(names, folders, strict=True)
    ]


def _row(name: str, results: Results | None) -> tuple[str, ...]:
    if results is None:
        return (name, "not finished", *[wording.NONE] * (len(COLUMNS) - 2))
    metric, verdict = results.primary, results.verdict or Verdict()
    student = results.models.get("distilled", ModelResult())
    scores = [
        f"{wording.score(results.score(role).mean, metric=metric)} "
        f"{wording.spread(results.score(role), metric=metric)}".strip()
        for role in ROLES
    ]
    return (
        name,
        wording.metric_name(metric),
        *scores,
        wording.signed(verdict.gain, metric=metric),
        wording.NONE
        if verdict.p_value is None
        else wording.p_value(verdict.p_value)[2:].lstrip("= "),
        verdict.helped if results.verdict else wording.NONE,
        wording.share(verdict.gap_recovered),
        wording.share(verdict.retention),
        wording.times(verdict.speedup),
        wording.times(verdict.compression),
        wording.milliseconds(None if student.latency_ms is None else student.latency_ms.p50),
        wording.size(student.bytes),
    )


def _summary(runs: Sequence[RunFolder]) -> str:
    judged = [run.results.verdict for run in runs if run.results and run.results.verdict]
    helped = sum(verdict.helped == "yes" for verdict in judged)
    if not judged:
        return "None of these runs has a verdict yet."
    return f"Distillation helped in {helped} of {len(judged)} run{'s' * (len(judged) > 1)}."


def _notes(runs: Sequence[RunFolder]) -> list[str]:
    """What keeps the numbers of these runs from being compared directly."""
    done = [run.results for run in runs if run.results]
    notes = []
    for what, found in (
        ("different metrics", {wording.metric_name(results.primary) for results in done}),
        ("different data", {results.data.name for results in done}),
        ("different numbers of seeds", {str(len(results.seeds)) for results in done}),
    ):
        if len(found) > 1:
            notes.append(f"These runs have {what}: {', '.join(sorted(found))}.")
    engines = {
        model.latency_ms.engine
        for results in done
        for model in results.models.values()
        if model.latency_ms
    }
    if len(engines) > 1:
        notes.append(f"Latencies were taken on different engines: {', '.join(sorted(engines))}.")
    return notes


def _forests(names: Sequence[str], runs: Sequence[RunFolder]) -> list[Mapping[str, object]]:
    """The gains with their intervals, one scale for each metric; zero is on every scale."""
    groups: dict[str, list[tuple[str, Verdict]]] = {}
    for name, run in zip(names, runs, strict=True):
        verdict = run.results.verdict if run.results else None
        if run.results and verdict and verdict.gain is not None:
            groups.setdefault(run.results.primary, []).append((name, verdict))
    return [_forest(metric, members) for metric, members in groups.items()]


def _forest(metric: str, members: Sequence[tuple[str, Verdict]]) -> Mapping[str, object]:
    every = [v for _, each in members for v in (each.gain or 0.0, *(each.gain_ci95 or ()))]
    scale = Scale.around([0.0, *every])
    dots = [
        Dot(
            key="distilled",
            name=name,
            said=wording.signed(verdict.gain, metric=metric),
            small="" if verdict.p_value is None else wording.p_value(verdict.p_value),
            at=scale.place(verdict.gain or 0.0),
            low=scale.place(verdict.gain_ci95[0]) if verdict.gain_ci95 else None,
            high=scale.place(verdict.gain_ci95[1]) if verdict.gain_ci95 else None,
        )
        for name, verdict in members
    ]
    unit = "percentage points" if wording.is_fraction(metric) else "the metric's units"
    title = f"Gain: {wording.metric_name(metric)}, in {unit}"
    return {"title": title, "dots": dots, "zero": scale.place(0.0)}


def _markdown(rows: Sequence[Sequence[str]], *, summary: str, notes: Sequence[str]) -> str:
    table = markdown_table(COLUMNS, [[escape(cell) for cell in row] for row in rows])
    warned = [f"> ⚠️ {escape(note)}" for note in notes]
    return "\n\n".join(["## Runs compared", summary, *warned, table]) + "\n"
