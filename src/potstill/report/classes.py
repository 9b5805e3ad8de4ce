"""The table of sensitivity, specificity, predictive value and calibration, class by class."""

from dataclasses import dataclass

from potstill.report import wording
from potstill.report.records import ClassResult, Results, Summary

MOST = 20  # classes; more are not shown one by one
COLUMNS = ("Model", "Sensitivity", "Specificity", "PPV", "Says", "Calibration error")


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """What one model does with one class: its role, and the cells behind it."""

    role: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """One class: its name, how many test rows it has, and a row for each role."""

    name: str
    rows: int
    share: str
    models: tuple[ClassRow, ...]


def class_tables(results: Results) -> tuple[ClassTable, ...]:
    """One table a class; none if there are more than `MOST`, or none was measured."""
    found = {
        role: model.per_class
        for role in results.roles()
        if (model := results.models[role]).per_class
    }
    if not found:
        return ()
    first = next(iter(found.values())) or ()
    if len(first) > MOST:
        return ()
    return tuple(
        ClassTable(
            name=one.name,
            rows=one.support,
            share=wording.share(one.prevalence),
            models=tuple(
                ClassRow(role=role, cells=_cells(each[number]))
                for role, each in found.items()
                if each is not None and number < len(each)
            ),
        )
        for number, one in enumerate(first)
    )


def _cells(one: ClassResult) -> tuple[tuple[str, str], ...]:
    shares = (one.sensitivity, one.specificity, one.ppv)
    error = wording.NONE if one.ece.mean is None else f"{one.ece.mean:.3f}"
    return (
        *((wording.share(each.mean), _ends(each)) for each in shares),
        (wording.share(one.mean_probability), ""),
        (error, ""),
    )


def _ends(summary: Summary) -> str:
    """`81.2–90.4`, the ends of the interval in per cent."""
    if summary.ci95 is None:
        return ""
    low, high = summary.ci95
    return f"{100 * low:.1f}–{100 * high:.1f}"
