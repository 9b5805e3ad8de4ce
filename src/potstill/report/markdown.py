"""A run in brief as Markdown, for a pull request: tables and text, no scripts, no styles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from potstill.report import wording
from potstill.report.answers import Answers, read_answers
from potstill.report.chains import CHAIN_COLUMNS, chain_rows, exit_chart
from potstill.report.classes import COLUMNS, class_tables
from potstill.report.curves import role_curves
from potstill.report.devices import device_tables, devices_of
from potstill.report.disagreements import find_disagreements
from potstill.report.folder import RunFolder
from potstill.report.page import headline_of, key_figures
from potstill.report.pictures import text_line
from potstill.report.records import Results
from potstill.report.rules import rules_of
from potstill.report.squeezed import Squeezed, squeezed_of
from potstill.report.table import side_by_side
from potstill.report.year import Assumptions, year_table

_SIGNS = {"yes": "✅", "no": "❌", "unclear": "❔"}


def render_markdown(
    run: RunFolder, *, figures: Sequence[Path] = (), year: Assumptions | None = None
) -> str:
    """The report of a run as Markdown; `figures` are named by their path beside it."""
    results = run.results or Results(name=run.path.name)
    answers = read_answers(run)
    parts = [
        _verdict(run, results),
        _models(results),
        *_findings(results),
        _chain(results),
        _exits(results),
        *_costs(run, year),
        _seeds(results),
        _training(run, results),
        _classes(results),
        *_rules(results),
        squeezed_markdown(squeezed_of(run.compressed)),
        _disagreements(run, answers) if answers else "",
        "\n".join(f"![{escape(f.stem)}](figures/{f.name})" for f in figures),
        _run(run, results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _findings(results: Results) -> list[str]:
    """What was found out about the conditions of the run, a table each."""
    return [
        f"### {escape(found.title)}\n\n{escape(found.note)}\n\n"
        + markdown_table(found.columns, [[escape(cell) for cell in row] for row in found.rows])
        for found in results.findings
    ]


def _costs(run: RunFolder, year: Assumptions | None) -> list[str]:
    """What was measured on devices, and a year of predictions."""
    tables = [(found.title, found) for found in device_tables(devices_of(run))]
    if (found := year_table(run, year)) is not None:
        tables.append(("A year of predictions", found))
    return [
        f"### {escape(title)}\n\n"
        + markdown_table(found.columns, [[escape(cell) for cell in row] for row in found.rows])
        + (f"\n\n{escape(found.note)}" if found.note else "")
        for title, found in tables
    ]


def escape(value: str) -> str:
    """Text that comes from data, so that Markdown and HTML read it as text."""
    flat = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;")
    for sign in "\\`*_[]|":
        flat = flat.replace(sign, "\\" + sign)
    return flat


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column stands left and whose others stand right."""
    lines = [
        "| " + " | ".join(columns) + " |",
        "|:--|" + "--:|" * (len(columns) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines)


def _verdict(run: RunFolder, results: Results) -> str:
    verdict = results.verdict
    badge = f"{_SIGNS[verdict.helped]} **Helped: {verdict.helped}.** " if verdict else ""
    lines = [f"## {escape(results.name)}", badge + escape(headline_of(run))]
    if verdict and verdict.reason:
        lines.append(escape(verdict.reason))
    lines += [f"> ⚠️ **Warning:** {escape(warning)}" for warning in results.warnings]
    keys = [f"- {key.label}: **{key.value}**{_small(key.small)}" for key in key_figures(results)]
    return "\n\n".join([*lines, "\n".join(keys)] if keys else lines)


def _small(text: str) -> str:
    return f" ({text})" if text else ""


def _models(results: Results) -> str:
    rows = side_by_side(results)
    if not rows:
        return ""
    shown = [
        [
            f"**{row.label}**" if row.primary else row.label + _small(row.hint),
            *(f"{cell.value} {cell.small}".strip() for cell in row.cells),
        ]
        for row in rows
    ]
    return markdown_table(["", *(wording.role_name(role) for role in results.roles())], shown)


def _chain(results: Results) -> str:
    rows = chain_rows(results)
    return markdown_table(CHAIN_COLUMNS, rows) if rows else ""


def _exits(results: Results) -> str:
    chart = exit_chart(results)
    return "" if chart is None else markdown_table(chart.columns, chart.rows)


def _seeds(results: Results) -> str:
    metric = results.primary
    pairs = list(
        zip(results.seeds, results.score("scratch").values, results.score("distilled").values,
            strict=False)
    )  # fmt: skip
    if len(pairs) < 2:
        return ""
    rows = [
        (
            str(seed),
            wording.score(a, metric=metric),
            wording.score(b, metric=metric),
            wording.signed(None if a is None or b is None else b - a, metric=metric),
        )
        for seed, a, b in pairs
    ]
    return markdown_table(["Seed", "Scratch", "Distilled", "Difference"], rows)


def _training(run: RunFolder, results: Results) -> str:
    metric, up = results.selection()
    curves = role_curves(run.history, split="validation", metric=metric, higher_is_better=up)
    lines = [
        f"| {wording.role_name(curve.role)} | `{text_line(np.array(_thin(curve.mean)))}` "
        f"| {wording.score(curve.mean[-1], metric=metric)} |"
        for curve in curves
        if curve.mean
    ]
    if not lines:
        return ""
    head = f"| {wording.metric_name(metric)} on the validation data | epochs → | last |"
    return "\n".join([head, "|:--|:--|--:|", *lines])


def _thin(values: Sequence[float], *, most: int = 40) -> list[float]:
    step = -(-len(values) // most)
    return [*values[::step]]


def _classes(results: Results) -> str:
    """Sensitivity, specificity, PPV and calibration, a row for each class and model."""
    rows = [
        [
            escape(one.name),
            wording.role_name(row.role),
            *(f"{value} ({small})" if small else value for value, small in row.cells),
        ]
        for one in class_tables(results)
        for row in one.models
    ]
    return markdown_table(["Class", *COLUMNS], rows) if rows else ""


def _rules(results: Results) -> list[str]:
    """What a student that can be read says, in its own words."""
    return [
        f"{wording.role_name(each.role)}, {each.count} {'leaves' if each.tree else 'rules'}:"
        "\n\n```text\n" + "\n".join(line.replace("```", "` ` `") for line in each.lines) + "\n```"
        for each in rules_of(results)
    ]


def squeezed_markdown(squeezed: Squeezed | None) -> str:
    """All ways to one size, a row each; nothing where nothing was squeezed."""
    if squeezed is None:
        return ""
    notes = "\n".join(f"- {escape(note)}" for note in squeezed.notes)
    return f"{squeezed.intro}\n\n{markdown_table(squeezed.columns, squeezed.rows)}\n\n{notes}"


def _disagreements(run: RunFolder, answers: Answers) -> str:
    found = find_disagreements(run, answers)
    if found is None:
        return ""
    rows = [["Both right", f"{found.both_right:,}"]]
    rows += [[group.title, f"{group.count:,}"] for group in found.groups]
    return markdown_table([f"Teacher and student (seed {found.seed})", "Samples"], rows)


def _run(run: RunFolder, results: Results) -> str:
    lines = [f"Run it again:\n\n```sh\n{results.command}\n```"] if results.command else []
    facts = [f"objective `{results.objective}`"] if results.objective else []
    facts += [f"layers `{line}`" for line in results.pairing]
    if results.data.name:
        sizes = ", ".join(
            f"{n:,} {part}"
            for part, n in (
                ("train", results.data.train),
                ("validation", results.data.validation),
                ("test", results.data.test),
            )
            if n
        )
        facts.append(f"data {escape(results.data.name)} ({sizes})" if sizes else results.data.name)
    if results.seeds:
        facts.append("seeds " + ", ".join(str(seed) for seed in results.seeds))
    if facts:
        lines.append("; ".join(facts)[:1].upper() + "; ".join(facts)[1:] + ".")
    spent = [s.seconds for s in run.stages if s.seconds is not None]
    if spent:
        lines.append(f"All stages took {wording.seconds(sum(spent))}.")
    return "\n\n".join(lines)
