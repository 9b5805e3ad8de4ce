"""Columns of numbers and of categories as one table of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np

from potstill.data.arrays import Array
from potstill.data.options import Options, nearest
from potstill.data.table_form import MISSING, TableColumn, TableForm, as_text, is_absent
from potstill.errors import DataError, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset

MAX_CATEGORIES = 64
"""More than that in one column is an identity or free text, not a category."""

OPTIONS = frozenset({"categorical", "missing", "missing_values"})


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the recipe says about the cells of a table.

    Args:
        categorical: columns of numbers that are codes of categories.
        impute: take missing values (numbers: the median of the training part and a 0/1 column
            that says where; categories: one of their own) instead of refusing them.
        absent: what stands for a missing value, as text, in every column.
        absent_in: the same for single columns.
    """

    categorical: frozenset[str] = frozenset()
    impute: bool = False
    absent: tuple[str, ...] = ()
    absent_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, options: Options) -> "Reading":
        """From plain values."""
        everywhere: tuple[str, ...] = ()
        single: dict[str, tuple[str, ...]] = {}
        given = options.mapping_if("missing_values")
        if given is None:
            everywhere = options.texts("missing_values") or ()
        else:
            checked = Options(given, known=given, owner="`missing_values:`")
            single = {name: checked.texts(name) or () for name in given}
        marked = bool(everywhere or single)
        told = options.text("missing", choices=("refuse", "impute"))
        return cls(
            categorical=frozenset(options.texts("categorical") or ()),
            impute=told == "impute" or (marked and told is None),
            absent=everywhere,
            absent_in=single,
        )

    def absent_of(self, name: str) -> tuple[str, ...]:
        """What stands for a missing value in one column."""
        return (*self.absent, *self.absent_in.get(name, ()))

    def check(self, columns: Sequence[str]) -> None:
        """Refuse names of columns that are no inputs."""
        for key, names in (("categorical", self.categorical), ("missing_values", self.absent_in)):
            for name in names:
                if name not in columns:
                    raise RecipeError(
                        f"`{key}:` names `{name}`, which is no input; {nearest(name, columns)}"
                    )


@final
@dataclass(frozen=True)
class Table:
    """How all columns are read, settled on the training part."""

    form: TableForm
    reading: Reading

    def encode(self, dataset: "Dataset", *, part: str) -> Array:
        """`[N, F]` float64; NaN where a number is missing.

        Raises:
            DataError: a cell without a value, or of another type than in training.
        """
        encoded = []
        for column in self.form.columns:
            values = _values(dataset, column.name, part=part, reading=self.reading)
            if _is_text(values, column.name, self.reading) != (column.categories is not None):
                kinds = ("numbers", "text") if column.categories is None else ("text", "numbers")
                raise DataError(
                    f"Column `{column.name}` holds {kinds[0]} in the training part and {kinds[1]} "
                    f"in the {part} part; give one type in both."
                )
            if not column.flagged and column.categories is None:
                _refuse_new_gaps(values, column, part=part)
            encoded.append(column.encode(values))
        return np.concatenate(encoded, axis=1)

    def notes(self, parts: Mapping[str, "Dataset"]) -> tuple[str, ...]:
        """One sentence for each column that has unknown categories outside the training part."""
        notes = []
        for column in self.form.columns:
            if column.categories is None:
                continue
            for part, dataset in parts.items():
                values = _values(dataset, column.name, part=part, reading=self.reading)
                unknown = {_category(v, column) for v in values} - set(column.categories)
                if unknown:
                    notes.append(
                        f"Column `{column.name}` has {len(unknown)} categories in the {part} part "
                        f"that training lacks, such as `{min(unknown)}`; they are read as none."
                    )
        return tuple(notes)


def fit_table(train: "Dataset", columns: tuple[str, ...], reading: Reading | None = None) -> Table:
    """Settle how each column is read: text and classes as categories in sorted order."""
    reading = reading or Reading()
    reading.check(columns)
    return Table(TableForm(tuple(_fit_column(train, n, reading) for n in columns)), reading)


def _fit_column(train: "Dataset", name: str, reading: Reading) -> TableColumn:
    values = _values(train, name, part="train", reading=reading)
    absent = reading.absent_of(name)
    if not _is_text(values, name, reading):
        gaps = any(is_absent(value, absent) for value in values)
        return TableColumn(name=name, flagged=gaps, absent=absent)
    column = TableColumn(name=name, categories=(), absent=absent)
    categories = sorted({_category(value, column) for value in values}, key=_in_order)
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"Column `{name}` holds {len(categories)} different texts such as `{categories[0]}`, "
            f"and at most {MAX_CATEGORIES} are read as categories; leave it out by naming the "
            "other columns with `inputs: [...]`."
        )
    return TableColumn(name=name, categories=tuple(categories), absent=absent)


def _category(value: object, column: TableColumn) -> str:
    return MISSING if column.lacks(value) else as_text(value)


def _in_order(category: str) -> tuple[float, str]:
    """Codes by their number, words by the alphabet behind them."""
    try:
        return float(category), category
    except ValueError:
        return float("inf"), category


def _is_text(values: Sequence[object], name: str, reading: Reading) -> bool:
    """Whether a column is one of categories: text, or told to be."""
    if name in reading.categorical:
        return True
    absent = reading.absent_of(name)
    present = [value for value in values if not is_absent(value, absent)]
    if not any(isinstance(value, str) for value in present):
        return False
    return not (absent and all(_is_number(value) for value in present))


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _refuse_new_gaps(values: Sequence[object], column: TableColumn, *, part: str) -> None:
    gaps = [row for row, value in enumerate(values) if column.lacks(value)]
    if gaps:
        raise DataError(
            f"Column `{column.name}` of the {part} part has no value in row {gaps[0]} "
            f"({len(gaps)} such rows in all), and in training it always has one; fill them, or "
            "leave the column out by naming the others with `inputs: [...]`."
        )


def _values(dataset: "Dataset", name: str, *, part: str, reading: Reading) -> list[object]:
    """The cells: numbers, or text for text and classes; `None` where a value is missing."""
    column = dataset.with_format("arrow")[:][name]
    cells: list[object] = column.to_pylist()
    if column.null_count and not reading.impute:
        row = cells.index(None)
        raise DataError(
            f"Column `{name}` of the {part} part has no value in row {row} ({column.null_count} "
            "such rows in all); let them be filled with `missing: impute`, or leave the column "
            "out by naming the others with `inputs: [...]`."
        )
    classes = getattr(dataset.features[name], "names", None)
    if classes is not None:
        return [None if cell is None else classes[int(str(cell))] for cell in cells]
    if not all(cell is None or isinstance(cell, bool | int | float | str) for cell in cells):
        raise DataError(
            f"Column `{name}` of the {part} part holds neither numbers nor text "
            f"({dataset.features[name]}); leave it out by naming the others with `inputs: [...]`."
        )
    return cells
