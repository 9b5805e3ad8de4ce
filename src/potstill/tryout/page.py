"""The page as HTML: one file that asks for nothing but answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import ChoiceLoader, PackageLoader

from potstill.data.table_form import TableForm
from potstill.report.page import environment
from potstill.tryout.room import Room
from potstill.tryout.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Field:
    """An entry of a table's form: a number, or one of some choices."""

    name: str
    value: str
    choices: tuple[str, ...] = ()


def render_try(room: Room, *, key: str) -> str:
    """The page of a room; `key` goes with every question."""
    made = environment()
    made.loader = ChoiceLoader([PackageLoader("potstill.tryout"), PackageLoader("potstill.report")])
    subject = room.subject
    results = subject.run.results
    return made.get_template("try.html.j2").render(
        title="" if results is None else results.name,
        kind=subject.facts.kind,
        shape=subject.shape,
        rate=subject.facts.sampling_rate or 0,
        num_texts=subject.num_texts,
        can_write=subject.tokens is not None,
        fields=fields_of(subject, row=0),
        samples=room.samples(),
        models=[{"name": each.name, "role": each.role} for each in room.answerers],
        settings={"kind": subject.facts.kind, "key": key, "rows": _rows(subject)},
    )


def fields_of(subject: Subject, *, row: int) -> list[Field]:
    """The form of a table, filled with a test sample; nothing for other samples."""
    if subject.facts.kind != "table":
        return []
    values = [float(value) for value in subject.inputs[row]]
    if subject.form is not None:
        return _columns(subject.form, values)
    names = subject.facts.features or tuple(map(str, range(len(values))))
    return [
        Field(name=name, value=f"{value:.6g}") for name, value in zip(names, values, strict=True)
    ]


def _columns(form: TableForm, values: Sequence[float]) -> list[Field]:
    fields, place = [], 0
    for column in form.columns:
        width = len(column.names)
        here = values[place : place + width]
        place += width
        if column.categories is None:
            missing = column.flagged and here[-1] > 0.5
            fields.append(Field(name=column.name, value="" if missing else f"{here[0]:.6g}"))
        else:
            chosen = max(range(width), key=lambda i: here[i])
            fields.append(
                Field(name=column.name, value=column.categories[chosen], choices=column.categories)
            )
    return fields


def _rows(subject: Subject) -> list[list[str]]:
    """The values of the test samples that the page may fill into the form."""
    if subject.facts.kind != "table":
        return []
    return [[f.value for f in fields_of(subject, row=row)] for row in range(len(subject.inputs))]
