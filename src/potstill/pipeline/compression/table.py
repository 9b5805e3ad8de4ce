"""The comparison of all ways as a Markdown table."""

from collections.abc import Mapping, Sequence
from typing import cast

Tree = Mapping[str, object]
_HEAD = ("way", "teacher", "bytes", "× smaller", "p50 ms", "× faster", "metric", "kept", "epochs")


def markdown(record: Tree) -> str:
    """A heading, one row for each reference and way, and what the teacher is worth."""
    lines = [
        f"Target: {cast('int', record['target_bytes']):,} bytes. Metric: {record['primary']} on "
        f"the test data, mean over seeds {record['seeds']}.",
        "",
        *_table(rows(record)),
        "",
        *(f"- {sentence}" for sentence in sentences(record)),
    ]
    return "\n".join(lines) + "\n"


def rows(record: Tree) -> list[list[str]]:
    """A heading, then references, then ways."""
    primary = str(record["primary"])
    found = [[*_HEAD[:6], primary, *_HEAD[7:]]]
    for name, reference in cast("Mapping[str, Tree]", record["references"]).items():
        found.append(_cells(name, "", reference, primary))
    for way in cast("Sequence[Tree]", record["ways"]):
        mark = "" if way["reaches"] else " (larger)"
        taught = "with" if way["teacher"] else "without"
        found.append(_cells(f"{way['way']}{mark}", taught, way, primary))
    return found


def sentences(record: Tree) -> list[str]:
    """What the teacher is worth in each way, what is best, and what was left out."""
    found = []
    for due in cast("Sequence[Tree]", record["due_to_teacher"]):
        gain = cast("Mapping[str, object]", due["gain"])
        ci = cast("list[float] | None", gain["ci95"])
        span = "" if ci is None else f" ({ci[0]:+.4f} to {ci[1]:+.4f})"
        found.append(f"{due['way']}: {cast('float', gain['mean']):+.4f}{span} due to the teacher")
    best = cast("Tree | None", record["best"])
    if best is not None:
        taught = "with" if best["teacher"] else "without"
        found.append(f"best on validation data at this size: {best['way']} {taught} the teacher")
    for left in cast("Sequence[Tree]", record["skipped"]):
        nearest = left["nearest_bytes"]
        why = left["why"] or f"at least {cast('int', nearest):,} bytes"
        found.append(f"left out: {left['way']} ({why})")
    return found


def _cells(name: str, taught: str, figures: Tree, primary: str) -> list[str]:
    test = cast("Mapping[str, Mapping[str, float | None]]", figures["test"])[primary]
    spread = "" if test["std"] is None else f" ± {test['std']:.4f}"
    latency = cast("Mapping[str, float] | None", figures["latency_ms"])
    return [
        name,
        taught,
        _said(figures["bytes"], ",.0f"),
        _said(figures.get("compression"), ".1f"),
        _said(None if latency is None else latency["p50"], ".3f"),
        _said(figures.get("speedup"), ".1f"),
        f"{test['mean']:.4f}{spread}",
        _said(figures.get("retention"), ".1%"),
        _said(figures.get("epochs"), "d"),
    ]


def _said(value: object, form: str) -> str:
    return "–" if value is None else format(cast("float", value), form)


def _table(table: Sequence[Sequence[str]]) -> list[str]:
    head, *body = table
    lines = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(line) + " |" for line in lines]
