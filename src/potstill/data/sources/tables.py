"""Columns of numbers and of categories as one table of numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from potstill.data.arrays import Array
from potstill.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

MAX_CATEGORIES = 64
"""More than that in one column is an identity or free text, not a category."""


@final
@dataclass(frozen=True)
class Column:
    """How one column is read: as it is, or as one 0/1 column for each category."""

    name: str
    categories: tuple[str, ...] | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers that come out."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)

    def encode(self, values: Array) -> Array:
        """`[N]` → `[N, 1]` float64, or `[N, categories]`; an unknown category is all zeros."""
        if self.categories is None:
            return values.astype(np.float64)[:, None]
        hot: Array = np.equal(values[:, None], np.array(self.categories)).astype(np.float64)
        return hot


@final
@dataclass(frozen=True)
class Table:
    """How all columns are read, settled on the training part."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """One for each number of a row."""
        return tuple(name for column in self.columns for name in column.names)

    def encode(self, dataset: "Dataset", *, part: str) -> Array:
        """`[N, F]` float64.

        Raises:
            DataError: a cell without a value, or of another type than in training.
        """
        encoded = []
        for column in self.columns:
            values = _values(dataset, column.name, part=part)
            if (values.dtype.kind == "U") != (column.categories is not None):
                kinds = ("numbers", "text") if column.categories is None else ("text", "numbers")
                raise DataError(
                    f"Column `{column.name}` holds {kinds[0]} in the training part and {kinds[1]} "
                    f"in the {part} part; give one type in both."
                )
            encoded.append(column.encode(values))
        return np.concatenate(encoded, axis=1)

    def notes(self, parts: Mapping[str, "Dataset"]) -> tuple[str, ...]:
        """One sentence for each column that has unknown categories outside the training part."""
        notes = []
        for column in self.columns:
            if column.categories is None:
                continue
            for part, dataset in parts.items():
                unknown = set(_values(dataset, column.name, part=part)) - set(column.categories)
                if unknown:
                    notes.append(
                        f"Column `{column.name}` has {len(unknown)} categories in the {part} part "
                        f"that training lacks, such as `{min(unknown)}`; they are read as none."
                    )
        return tuple(notes)


def fit_table(train: "Dataset", columns: tuple[str, ...]) -> Table:
    """Settle how each column is read: text and classes as categories in sorted order."""
    return Table(tuple(_fit_column(train, name) for name in columns))


def _fit_column(train: "Dataset", name: str) -> Column:
    values = _values(train, name, part="train")
    if values.dtype.kind != "U":
        return Column(name, None)
    categories = sorted(set(values.tolist()))
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"Column `{name}` holds {len(categories)} different texts such as `{categories[0]}`, "
            f"and at most {MAX_CATEGORIES} are read as categories; leave it out by naming the "
            "other columns with `inputs: [...]`."
        )
    return Column(name, tuple(categories))


def _values(dataset: "Dataset", name: str, *, part: str) -> Array:
    """`[N]` numbers, or text for text and classes."""
    column = dataset.with_format("arrow")[:][name]
    if column.null_count:
        row = column.to_pylist().index(None)
        raise DataError(
            f"Column `{name}` of the {part} part has no value in row {row} ({column.null_count} "
            "such rows in all); fill them, or leave the column out by naming the others with "
            "`inputs: [...]`."
        )
    classes = getattr(dataset.features[name], "names", None)
    values = np.asarray(column.to_pylist())
    if classes is not None:
        return np.asarray(classes)[values.astype(np.int64)]
    if values.ndim != 1 or values.dtype.kind not in "buifU":
        raise DataError(
            f"Column `{name}` of the {part} part holds neither numbers nor text "
            f"({dataset.features[name]}); leave it out by naming the others with `inputs: [...]`."
        )
    return values
