"""`compress.json` as it is shown: all ways to one size, with and without the teacher."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from potstill.errors import StorageError
from potstill.report import wording

Tree = Mapping[str, object]
_HEAD = ("Way", "Teacher", "Bytes", "Smaller", "p50", "Faster")
_MORE = ("Kept", "Epochs", "Zipped")
LAYER_COLUMNS = ("Layer", "Alone in 8 bits", "All but it", "Best kept in")


@dataclass(frozen=True, kw_only=True)
class Squeezed:
    """The comparison in words.

    Args:
        intro: the size, the metric, the seeds.
        columns: of the table.
        rows: references first, then ways.
        notes: what the teacher is worth in each way, what is best, what was left out.
        layers: what each costs in 8 bits: name, alone, spared, which stays in float32.
    """

    intro: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    layers: tuple[tuple[str, ...], ...] = ()


def squeezed_of(record: Tree | None) -> Squeezed | None:
    """What `compress.json` says; `None` where nothing was squeezed.

    Raises:
        StorageError: it is not what `potstill compress` writes.
    """
    if record is None:
        return None
    try:
        primary = str(record["primary"])
        head, *body = _rows(record, primary)
        return Squeezed(
            intro=f"{_target(record)} {wording.metric_name(primary)} on the test data, mean over "
            f"seeds {', '.join(map(str, cast('Sequence[int]', record['seeds'])))}.",
            columns=tuple(head),
            rows=tuple(tuple(row) for row in body),
            notes=tuple(_notes(record)),
            layers=tuple(_layers(record)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(
            f"`compress.json` is not as `potstill compress` writes it ({error!r}); remove it, or "
            "run the command again."
        ) from error


def _target(record: Tree) -> str:
    size = cast("int | None", record["target_bytes"])
    return "Weights in 4 bits." if size is None else f"Target: {size:,} bytes."


def _rows(record: Tree, primary: str) -> list[list[str]]:
    found = [[*_HEAD, wording.metric_name(primary), *_MORE]]
    for name, reference in cast("Mapping[str, Tree]", record["references"]).items():
        found.append(_cells(name, "", reference, primary))
    for way in cast("Sequence[Tree]", record["ways"]):
        mark = "" if way["reaches"] else " (larger)"
        taught = "with" if way["teacher"] else "without"
        found.append(_cells(f"{way['way']}{mark}", taught, way, primary))
    return found


def _notes(record: Tree) -> list[str]:
    found = []
    for due in cast("Sequence[Tree]", record["due_to_teacher"]):
        gain = cast("Mapping[str, object]", due["gain"])
        ci = cast("list[float] | None", gain["ci95"])
        span = "" if ci is None else f" ({ci[0]:+.4f} to {ci[1]:+.4f})"
        found.append(f"{due['way']}: {cast('float', gain['mean']):+.4f}{span} due to the teacher")
    for way in cast("Sequence[Tree]", record["ways"]):
        lost = cast("float | None", way.get("lost_by_rounding"))
        if lost is not None and record["target_bytes"] is None:
            taught = "with" if way["teacher"] else "without"
            found.append(f"{way['way']} {taught}: rounding alone costs {lost:.4f} of validation")
    best = cast("Tree | None", record["best"])
    if best is not None:
        taught = "with" if best["teacher"] else "without"
        found.append(f"best on validation data at this size: {best['way']} {taught} the teacher")
    for left in cast("Sequence[Tree]", record["skipped"]):
        nearest = left["nearest_bytes"]
        why = left["why"] or f"at least {cast('int', nearest):,} bytes"
        found.append(f"left out: {left['way']} ({why})")
    return found


def _layers(record: Tree) -> Iterator[tuple[str, ...]]:
    """The layers of the best quantised way, those that hurt most first."""
    known = cast("Tree | None", record.get("sensitivity"))
    if known is None:
        return
    table = cast("Mapping[str, Any]", known["table"])
    whole, rounded = table["whole"]["metric"], table["rounded"]["metric"]
    for each in sorted(table["layers"], key=lambda one: -one["alone"]["loss"]):
        yield (
            str(each["layer"]),
            f"{each['alone']['metric'] - whole:+.4f}",
            f"{each['without']['metric'] - rounded:+.4f}",
            "float32" if each["layer"] in table["skip"] else "int8",
        )


def _cells(name: str, taught: str, figures: Tree, primary: str) -> list[str]:
    test = cast("Mapping[str, Mapping[str, float | None]]", figures["test"])[primary]
    spread = "" if test["std"] is None else f" ± {test['std']:.4f}"
    latency = cast("Mapping[str, float] | None", figures["latency_ms"])
    return [
        name,
        taught,
        _said(figures["bytes"], ",.0f"),
        _said(figures.get("compression"), ".1f", " ×"),
        _said(None if latency is None else latency["p50"], ".3f", " ms"),
        _said(figures.get("speedup"), ".1f", " ×"),
        f"{test['mean']:.4f}{spread}",
        _said(figures.get("retention"), ".1%"),
        _said(figures.get("epochs"), "d"),
        _said(figures.get("zipped_bytes"), ",.0f"),
    ]


def _said(value: object, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{cast('float', value):{form}}{unit}"
