"""From columns with names and types to arrays: which are inputs, which labels, how each is read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from potstill.data.arrays import Array
from potstill.data.assembly import Raw, RawPart
from potstill.data.language import read_columns
from potstill.data.options import nearest
from potstill.data.samples import Kind, TargetKind
from potstill.data.sources.pictures import read_pictures
from potstill.data.sources.request import Request
from potstill.data.sources.tables import Reading, fit_table
from potstill.data.sources.tags import read_tagged
from potstill.data.sources.texts import read_texts
from potstill.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

LABEL_NAMES = ("label", "labels", "target", "class", "y")


def read_parts(parts: Mapping[str, "Dataset"], *, request: Request, name: str) -> Raw:
    """Arrays for every part, by the columns of the training part.

    Raises:
        DataError: columns that are missing, ambiguous, of no use, or have cells without a value.
    """
    if request.target_kind is TargetKind.TOKENS:
        return read_columns(parts, request=request, name=name)
    if request.target_kind is TargetKind.TAGS:
        return read_tagged(parts, request=request, name=name)
    train = parts["train"]
    unlabelled = request.target_kind is TargetKind.EMBEDDING
    labels = () if unlabelled else _label_columns(train, request.options.texts("label"))
    group = request.options.text("group")
    grouped = () if group is None else (group,)
    inputs = _input_columns(
        train,
        request.options.texts("inputs"),
        labels=labels,
        left_out=(*(request.options.texts("leave_out") or ()), *grouped),
    )
    for part, dataset in parts.items():
        for column in inputs if part == "transfer" else (*inputs, *labels, *grouped):
            _check_column(dataset, column, part=part)
    arrays = _read_inputs(parts, inputs, request=request, name=name)
    if unlabelled:
        return arrays
    groups = {
        part: np.asarray([str(value) for value in _full(dataset, column, part=part)])
        for column in grouped
        for part, dataset in parts.items()
        if part != "transfer"
    }
    targets, classes = _read_labels(parts, labels, request=request)
    return replace(
        arrays,
        parts={
            p: RawPart(raw.inputs, targets.get(p), groups=groups.get(p))
            for p, raw in arrays.parts.items()
        },
        classes=classes,
    )


def _label_columns(train: "Dataset", given: tuple[str, ...] | None) -> tuple[str, ...]:
    if given is not None:
        return given
    by_name = [n for n in train.column_names if n.lower() in LABEL_NAMES]
    by_type = [n for n, f in train.features.items() if type(f).__name__ == "ClassLabel"]
    for found in (by_name, by_type):
        if len(found) == 1:
            return (found[0],)
    raise DataError(
        f"None of the columns {_listed(train.column_names)} is clearly the label; name it with "
        "`label:`."
    )


def _input_columns(
    train: "Dataset",
    given: tuple[str, ...] | None,
    *,
    labels: tuple[str, ...],
    left_out: tuple[str, ...] = (),
) -> tuple[str, ...]:
    if given is not None:
        if both := sorted(set(given) & set(labels)):
            raise DataError(
                f"Column `{both[0]}` is among both `inputs:` and `label:`, which gives the answer "
                "away; take it out of `inputs:`."
            )
        return given
    for name in left_out:
        _check_column(train, name, part="train")
    rest = tuple(n for n in train.column_names if n not in {*labels, *left_out})
    images = tuple(n for n in rest if _is_image(train, n))
    if not rest:
        raise DataError(f"There is no column besides the label {_listed(labels)}; add inputs.")
    if len(images) > 1:
        raise DataError(f"Columns {_listed(images)} all hold images; name one with `inputs:`.")
    return images or rest


def _check_column(dataset: "Dataset", column: str, *, part: str) -> None:
    if column not in dataset.column_names:
        raise DataError(
            f"The {part} part has no column `{column}`; {nearest(column, dataset.column_names)}"
        )


def _read_inputs(
    parts: Mapping[str, "Dataset"], columns: tuple[str, ...], *, request: Request, name: str
) -> Raw:
    train, first = parts["train"], columns[0]
    if request.form.kind is Kind.TEXT:
        return read_texts(parts, columns, request=request, name=name)
    if len(columns) == 1 and _is_image(train, first):
        arrays = read_pictures(
            parts,
            column=first,
            resize=request.form.resize,
            channels=request.options.whole("channels"),
        )
        return _raw(name, arrays, kind=Kind.IMAGE, layout="nhwc")
    if len(columns) == 1 and type(train.features[first]).__name__ != "Value":
        return _raw(name, {p: _nested(d, first, part=p) for p, d in parts.items()})
    if any(_is_image(train, column) for column in columns):
        raise DataError(
            f"Columns {_listed(columns)} mix images with other inputs; name the image column alone "
            "with `inputs:`."
        )
    table = fit_table(train, columns, Reading.parse(request.options))
    raw = _raw(name, {p: table.encode(d, part=p) for p, d in parts.items()}, kind=Kind.TABLE)
    form = table.form
    return replace(raw, features=form.names, notes=table.notes(parts), table=form)


def _raw(
    name: str, arrays: Mapping[str, Array], *, kind: Kind | None = None, layout: str | None = None
) -> Raw:
    return Raw(
        name=name,
        parts={part: RawPart(array) for part, array in arrays.items()},
        kind=kind,
        layout=layout,
    )


def _nested(dataset: "Dataset", column: str, *, part: str) -> Array:
    """A column of lists (of lists) of numbers, all of one length."""
    rows = _full(dataset, column, part=part)
    try:
        array = np.asarray(rows, dtype=_nested_type(dataset, column))
    except (ValueError, TypeError) as error:
        lengths = [len(row) for row in rows if isinstance(row, Sequence)]
        odd = next((i for i, n in enumerate(lengths) if n != lengths[0]), None)
        if odd is None:
            raise DataError(
                f"Column `{column}` of the {part} part holds no plain numbers ({error}); choose "
                "other columns with `inputs:`."
            ) from error
        raise DataError(
            f"Column `{column}` of the {part} part has {lengths[0]} values in row 0 and "
            f"{lengths[odd]} in row {odd}; cut or pad the rows to one length."
        ) from error
    return array


def _nested_type(dataset: "Dataset", column: str) -> "np.dtype[np.generic]":
    """uint8 stays, so that arrays of pixels are seen as images; the rest is read as float."""
    feature = dataset.features[column]
    kind = getattr(feature, "dtype", None)
    while kind in (None, "list") and hasattr(feature, "feature"):
        feature = feature.feature
        kind = getattr(feature, "dtype", None)
    return np.dtype(np.uint8 if kind == "uint8" else np.float64)


def _read_labels(
    parts: Mapping[str, "Dataset"], columns: tuple[str, ...], *, request: Request
) -> tuple[dict[str, Array], tuple[str, ...] | None]:
    """The labels of every part but the transfer part, and the names of the classes if known."""
    labelled = {part: dataset for part, dataset in parts.items() if part != "transfer"}
    if len(columns) > 1:
        stacked = {
            part: np.stack([np.asarray(_full(d, c, part=part)) for c in columns], axis=1)
            for part, d in labelled.items()
        }
        return stacked, (columns if np.isin(stacked["train"], (0, 1)).all() else None)
    column = columns[0]
    rows = {part: _full(d, column, part=part) for part, d in labelled.items()}
    feature = labelled["train"].features[column]
    if any(isinstance(row, list) for row in rows["train"][:1]):
        names = getattr(getattr(feature, "feature", None), "names", None)
        return _label_lists(rows, names=request.form.classes or names, request=request)
    names = getattr(feature, "names", None)
    return {p: np.asarray(r) for p, r in rows.items()}, None if names is None else tuple(names)


def _label_lists(
    rows: Mapping[str, list[object]], *, names: Sequence[str] | None, request: Request
) -> tuple[dict[str, Array], tuple[str, ...] | None]:
    """Rows of numbers as they are, or lists of classes as rows of 0 and 1.

    Rows of one length that hold only 0 and 1, and rows of fractions, are taken as they are.
    """
    lists = {part: [list(r) if isinstance(r, list) else [r] for r in v] for part, v in rows.items()}
    train = lists["train"]
    flat = {value for row in train for value in row}
    even = len({len(row) for row in train}) == 1
    fractions = any(isinstance(value, float) for value in flat)
    as_they_are = even and (fractions or flat <= {0, 1})
    if as_they_are or request.target_kind is TargetKind.REGRESSION:
        try:
            arrays: dict[str, Array] = {part: np.asarray(v) for part, v in lists.items()}
        except ValueError as error:
            raise DataError(
                "The label rows differ in length; give every row as many values."
            ) from error
        return arrays, None if names is None else tuple(names)
    numbered = all(isinstance(value, int) for value in flat)
    if names is None:
        names = (
            [str(i) for i in range(max((v for v in flat if isinstance(v, int)), default=0) + 1)]
            if numbered
            else sorted(str(value) for value in flat)
        )
    places = {value: i for i, value in enumerate(range(len(names)) if numbered else names)}
    return {p: _multi_hot(v, places, part=p) for p, v in lists.items()}, tuple(names)


def _multi_hot(
    rows: Sequence[Sequence[object]], places: Mapping[object, int], *, part: str
) -> Array:
    array = np.zeros((len(rows), len(places)), dtype=np.uint8)
    for number, row in enumerate(rows):
        for value in row:
            if value not in places:
                raise DataError(
                    f"The {part} labels hold `{value}` in row {number}, which is none of the "
                    f"{len(places)} classes; correct it, or name all with `classes: [...]`."
                )
            array[number, places[value]] = 1
    return array


def _full(dataset: "Dataset", column: str, *, part: str) -> list[object]:
    """All values of a column, none of them missing."""
    values: list[object] = dataset.with_format("arrow")[:][column].to_pylist()
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        raise DataError(
            f"Column `{column}` of the {part} part has no value in row {missing[0]} "
            f"({len(missing)} such rows in all); fill or drop these rows."
        )
    return values


def _is_image(dataset: "Dataset", column: str) -> bool:
    return type(dataset.features.get(column)).__name__ == "Image"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
