"""How the columns of a table become numbers: what is settled once, on the training part.

It is written beside an exported student, so that whoever uses it can bring new rows to the same
form: `TableForm.load("export/columns.json").encode({"age": [63], "thal": ["fixed"], …})`.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError
from potstill.runtime.files import write_json

FORMAT = 1
MISSING = "missing"
"""The category of a cell without a value, and the end of the name of a number's flag."""


@final
@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """How one column is read: as a number, or as one 0/1 column for each category.

    Args:
        name: of the column.
        categories: in order; `None` for numbers. A category that is not among them is all zeros.
        flagged: a number that is missing in some rows; a 0/1 column says where.
        fill: what stands for a missing number: the median of the training part.
        absent: what else stands for a missing value, as text.
    """

    name: str
    categories: tuple[str, ...] | None = None
    flagged: bool = False
    fill: float | None = None
    absent: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers that come out."""
        if self.categories is not None:
            return tuple(f"{self.name}={category}" for category in self.categories)
        return (self.name, f"{self.name}={MISSING}") if self.flagged else (self.name,)

    def encode(self, values: Sequence[object]) -> NDArray[np.float64]:
        """`[N, len(names)]`; missing numbers are `fill`, or NaN as long as it is not settled."""
        if self.categories is not None:
            texts = np.array([MISSING if self.lacks(v) else as_text(v) for v in values])
            hot: NDArray[np.float64] = np.equal(texts[:, None], np.array(self.categories)).astype(
                np.float64
            )
            return hot
        lacking = np.array([self.lacks(v) for v in values], dtype=np.bool_)
        if lacking.any() and not self.flagged:
            raise DataError(
                f"Column `{self.name}` has no value in row {int(lacking.argmax())}, and in "
                "training it always had one; fill it."
            )
        stand_in = math.nan if self.fill is None else self.fill
        numbers = [
            stand_in if gone else self._number(v) for v, gone in zip(values, lacking, strict=True)
        ]
        columns = [np.array(numbers, dtype=np.float64)]
        if self.flagged:
            columns.append(lacking.astype(np.float64))
        return np.stack(columns, axis=1)

    def lacks(self, value: object) -> bool:
        """Whether a cell has no value."""
        return is_absent(value, self.absent)

    def _number(self, value: object) -> float:
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Column `{self.name}` holds {value!r}, and a number is expected; correct it, or "
                "name what stands for a missing value with `missing_values:`."
            ) from error


@final
@dataclass(frozen=True)
class TableForm:
    """How all columns of a table are read, in order."""

    columns: tuple[TableColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """One for each number of a row."""
        return tuple(name for column in self.columns for name in column.names)

    @property
    def groups(self) -> tuple[int, ...]:
        """For each number of a row, which column it is from."""
        return tuple(i for i, column in enumerate(self.columns) for _ in column.names)

    @property
    def unsettled(self) -> tuple[int, ...]:
        """The places of numbers whose fill is yet to be settled."""
        places, first = [], 0
        for column in self.columns:
            if column.flagged and column.fill is None:
                places.append(first)
            first += len(column.names)
        return tuple(places)

    def encode(self, table: Mapping[str, Sequence[object]]) -> NDArray[np.float32]:
        """`[N, F]` float32, what an exported student is given; it holds the normalisation itself.

        Raises:
            DataError: a column is missing, or holds what training did not have.
        """
        for column in self.columns:
            if column.name not in table:
                raise DataError(
                    f"The table has no column `{column.name}`; give all that were used."
                )
        made = [column.encode(table[column.name]) for column in self.columns]
        return np.concatenate(made, axis=1).astype(np.float32)

    def settled(self, fills: Sequence[float]) -> Self:
        """The same with what stands for missing numbers, one for each of `unsettled`."""
        left = iter(fills)
        return type(self)(
            tuple(
                TableColumn(name=c.name, flagged=True, fill=next(left), absent=c.absent)
                if c.flagged and c.fill is None
                else c
                for c in self.columns
            )
        )

    def to_json(self) -> dict[str, object]:
        """For a file."""
        return {"columns": [_record(column) for column in self.columns], "inputs": list(self.names)}

    def save(self, path: Path) -> None:
        """Write it."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """What `save` wrote.

        Raises:
            DataError: there is no such file, or it is of another kind.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise DataError(f"`{path}` has format {record['format']!r}, not {FORMAT}.")
            return cls(tuple(_column(each) for each in record["columns"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"`{path}` is not what `export/columns.json` of a run looks like ({error!r}); "
                "give that file."
            ) from error


def is_absent(value: object, absent: Collection[str]) -> bool:
    """Nothing, NaN, or one of the texts that stand for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return bool(absent) and as_text(value) in absent


def as_text(value: object) -> str:
    """A category as text: `3` and `3.0` alike; spaces around it do not count."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _record(column: TableColumn) -> dict[str, object]:
    found: dict[str, object] = {"name": column.name}
    if column.categories is not None:
        found["categories"] = list(column.categories)
    if column.flagged:
        found["missing"] = {"fill": column.fill}
    if column.absent:
        found["absent"] = list(column.absent)
    return found


def _column(record: Mapping[str, object]) -> TableColumn:
    categories, missing = record.get("categories"), record.get("missing")
    absent = record.get("absent", [])
    assert isinstance(absent, list), "as `_record` wrote it"
    fill = missing["fill"] if isinstance(missing, dict) else None
    return TableColumn(
        name=str(record["name"]),
        categories=tuple(map(str, categories)) if isinstance(categories, list) else None,
        flagged=missing is not None,
        fill=None if fill is None else float(fill),
        absent=tuple(map(str, absent)),
    )
