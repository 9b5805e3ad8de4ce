"""From labels as people store them (numbers, names, 0/1 rows) to label tensors."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from potstill.data.arrays import Array
from potstill.data.samples import TargetKind
from potstill.errors import DataError


@final
@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What labels mean, read from the training labels and applied to every part.

    Args:
        target_kind: one class a row, several, or values.
        num_outputs: C or O.
        classes: their names, in order; `None` for regression.
        values: what stands for each class in the source, if not its number: `[C]`, sorted.
        places: the class of each entry in `values`.
    """

    target_kind: TargetKind
    num_outputs: int
    classes: tuple[str, ...] | None = None
    values: Array | None = None
    places: npt.NDArray[np.int64] | None = None

    def encode(self, labels: Array, *, part: str) -> Tensor:
        """`[N]` int64, `[N, C]` float32 of 0 and 1, or `[N, O]` float32.

        Raises:
            DataError: a label that does not fit, with its row.
        """
        match self.target_kind:
            case TargetKind.SINGLE_LABEL:
                return self._encode_single(_column(labels, part=part), part=part)
            case TargetKind.MULTI_LABEL:
                return self._encode_multi(labels, part=part)
            case TargetKind.REGRESSION:
                return self._encode_values(labels, part=part)
            case TargetKind.BOXES:
                return torch.from_numpy(np.ascontiguousarray(labels, dtype=np.float32))
            case _:  # numbers of tokens or letters
                return torch.from_numpy(labels.astype(np.int64))

    def _encode_single(self, labels: Array, *, part: str) -> Tensor:
        if self.values is not None and self.places is not None:
            return torch.from_numpy(self._looked_up(labels, part=part))
        numbers = _whole(labels, part=part)
        outside = np.flatnonzero((numbers < 0) | (numbers >= self.num_outputs))
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"The {part} labels hold class {numbers[row]} in row {row}, and the "
                f"{self.num_outputs} classes are numbered 0 to {self.num_outputs - 1}; "
                f"{_after_outside(int(numbers[row]), part)}"
            )
        return torch.from_numpy(numbers)

    def _looked_up(self, labels: Array, *, part: str) -> npt.NDArray[np.int64]:
        assert self.values is not None
        assert self.places is not None
        if (labels.dtype.kind in "US") != (self.values.dtype.kind in "US"):
            raise DataError(
                f"The {part} labels are {labels.dtype} and the training labels "
                f"{self.values.dtype}; give names in both or numbers in both."
            )
        found = np.searchsorted(self.values, labels).clip(max=len(self.values) - 1)
        unknown = np.flatnonzero(self.values[found] != labels)
        if len(unknown):
            row = int(unknown[0])
            raise DataError(
                f"The {part} labels hold `{labels[row]}` in row {row}, which is none of the "
                f"{self.num_outputs} classes {_shortened(self.classes or ())}; correct it, or name "
                "all classes with `classes: [...]`."
            )
        return np.asarray(self.places[found], dtype=np.int64)

    def _encode_multi(self, labels: Array, *, part: str) -> Tensor:
        if labels.ndim != 2 or labels.shape[1] != self.num_outputs:
            raise DataError(
                f"The {part} labels have shape {labels.shape}, and one 0 or 1 for each of "
                f"{self.num_outputs} labels is expected, [N, {self.num_outputs}]; reshape them."
            )
        bad = np.argwhere(~np.isin(labels, (0, 1)))
        if len(bad):
            row, column = bad[0]
            raise DataError(
                f"The {part} labels hold {labels[row, column]} in row {row}, column {column}, and "
                "multi-label rows are made of 0 and 1; correct it or set another task."
            )
        return torch.from_numpy(labels.astype(np.float32))

    def _encode_values(self, labels: Array, *, part: str) -> Tensor:
        with np.errstate(over="ignore"):  # what becomes inf is reported with its place
            values = (labels[:, None] if labels.ndim == 1 else labels).astype(np.float32)
        if values.ndim != 2 or values.shape[1] != self.num_outputs:
            raise DataError(
                f"The {part} targets have shape {labels.shape}, and {self.num_outputs} values a "
                "row are expected; reshape them."
            )
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0]
            raise DataError(
                f"The {part} targets hold {values[row, column]} in row {row}, column {column}; "
                "fill or drop such rows."
            )
        return torch.from_numpy(np.ascontiguousarray(values))


def read_scheme(
    labels: Array,
    *,
    target_kind: TargetKind | None,
    classes: tuple[str, ...] | None,
    remap: bool = False,
) -> Scheme:
    """What the training labels mean.

    Args:
        labels: `[N]` numbers or names, or `[N, C]` numbers.
        target_kind: `None` decides by type: names and whole numbers are classes, rows of 0 and 1
            are multi-label, fractions are regression.
        classes: names in order. Number c is the c-th; labels that are names are looked up.
        remap: number the values that occur, in ascending order, instead of taking them as numbers.

    Raises:
        DataError: labels of no known form, a single class, classes without a training row.
    """
    kind = _guess(labels) if target_kind is None else target_kind
    if kind is TargetKind.BOXES:
        return _box_scheme(labels, classes)
    if labels.dtype.kind not in "buifUS":
        raise DataError(
            f"Labels of type {labels.dtype} are neither numbers nor names; convert them first."
        )
    if kind is not TargetKind.SINGLE_LABEL:
        return _wide_scheme(labels, kind=kind, classes=classes)
    labels = _column(labels, part="training")
    occurring = np.unique(labels)
    if len(occurring) < 2:
        raise DataError(
            f"All {len(labels)} training labels are `{occurring[0]}`, and a classifier needs two "
            "classes or more; check which column or member holds the labels."
        )
    if len(occurring) == len(labels) and len(labels) > 2:
        raise DataError(
            f"Each of the {len(labels)} training rows has a class of its own; check which column "
            "holds the labels, or use `task: regression` if they are values."
        )
    if remap or labels.dtype.kind in "US":
        return _named_scheme(occurring, classes=classes)
    return _numbered_scheme(occurring, labels, classes=classes)


def _box_scheme(labels: Array, classes: tuple[str, ...] | None) -> Scheme:
    """Boxes `[N, M, 6]`, whose classes have names."""
    if labels.ndim != 3 or labels.shape[2] != 6:
        raise DataError(
            f"Labels of shape {labels.shape} are no boxes; `task: detection` needs [N, M, 6] "
            "(class, x1, y1, x2, y2, ignored), which data sources `coco` and `voc` read."
        )
    highest = int(labels[..., 0].max())
    names = classes or tuple(str(number) for number in range(highest + 1))
    if highest >= len(names):
        raise DataError(
            f"The boxes have class {highest}, and `classes:` names {len(names)}; name all classes."
        )
    return Scheme(target_kind=TargetKind.BOXES, num_outputs=len(names), classes=names)


def _guess(labels: Array) -> TargetKind:
    if labels.ndim == 3 and labels.shape[2] == 6 and labels.dtype.kind == "f":
        return TargetKind.BOXES
    if labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1):
        return TargetKind.REGRESSION if labels.dtype.kind == "f" else TargetKind.SINGLE_LABEL
    if labels.ndim == 2 and labels.dtype.kind in "buif":
        return TargetKind.MULTI_LABEL if np.isin(labels, (0, 1)).all() else TargetKind.REGRESSION
    raise DataError(
        f"Labels of shape {labels.shape} and type {labels.dtype} are of no known form; give [N] "
        "classes, [N, C] of 0 and 1, or [N] or [N, O] values."
    )


def _named_scheme(occurring: Array, *, classes: tuple[str, ...] | None) -> Scheme:
    """Labels that are looked up: names, or numbers that count only as names."""
    names = tuple(str(value) for value in occurring)
    if classes is None or occurring.dtype.kind not in "US":
        if classes is not None and len(classes) != len(names):
            raise DataError(
                f"`classes:` has {len(classes)} names for {len(names)} values "
                f"{_shortened(names)}; give one name for each."
            )
        chosen = names if classes is None else classes
        return _single(chosen, values=occurring, places=np.arange(len(chosen)))
    values = np.array(classes)
    order = np.argsort(values)
    scheme = _single(classes, values=values[order], places=order)
    scheme.encode(occurring, part="training")
    return scheme


def _numbered_scheme(occurring: Array, labels: Array, *, classes: tuple[str, ...] | None) -> Scheme:
    """Labels that are class numbers."""
    numbers = _whole(labels, part="training")
    if classes is None:
        expected = np.arange(len(occurring))
        missing = np.flatnonzero(occurring != expected)
        if int(numbers.min()) >= 0 and len(missing):
            raise DataError(
                f"The training labels go from {numbers.min()} to {numbers.max()}, but no row has "
                f"class {missing[0]}; name all classes with `classes: [...]`, or set `remap: true` "
                "to number the values that occur."
            )
        classes = tuple(str(number) for number in range(max(int(numbers.max()) + 1, 2)))
    scheme = _single(classes)
    scheme.encode(labels, part="training")
    return scheme


def _single(
    classes: tuple[str, ...],
    *,
    values: Array | None = None,
    places: npt.NDArray[np.int64] | None = None,
) -> Scheme:
    if len(set(classes)) < len(classes):
        raise DataError(f"`classes:` {_shortened(classes)} has a name twice; make them distinct.")
    return Scheme(
        target_kind=TargetKind.SINGLE_LABEL,
        num_outputs=len(classes),
        classes=classes,
        values=values,
        places=places,
    )


def _wide_scheme(labels: Array, *, kind: TargetKind, classes: tuple[str, ...] | None) -> Scheme:
    if labels.dtype.kind in "US":
        raise DataError(f"Labels that are names cannot be read as {kind}; give numbers.")
    outputs = 1 if labels.ndim == 1 else labels.shape[-1]
    if kind is TargetKind.REGRESSION:
        if (labels == labels[:1]).all():
            raise DataError(
                f"All {len(labels)} training targets are equal, so there is nothing to learn; "
                "check which column or member holds the targets."
            )
        return Scheme(target_kind=kind, num_outputs=outputs)
    names = classes or tuple(str(number) for number in range(outputs))
    if len(names) != outputs:
        raise DataError(
            f"`classes:` has {len(names)} names for {outputs} label columns; give one for each."
        )
    return Scheme(target_kind=kind, num_outputs=outputs, classes=names)


def _column(labels: Array, *, part: str) -> Array:
    """`[N]`, also from `[N, 1]`."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        return labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"The {part} labels have shape {labels.shape}, and one class a row, [N], is expected; "
            "use `task: multi_label` if rows of 0 and 1 are meant."
        )
    return labels


def _whole(labels: Array, *, part: str) -> npt.NDArray[np.int64]:
    """Class numbers as int64, also from floats without a fraction."""
    if labels.dtype.kind in "US":
        raise DataError(
            f"The {part} labels are names such as `{labels[0]}` and the training labels numbers; "
            "give names in both or numbers in both."
        )
    if labels.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            bad = np.flatnonzero(~np.isfinite(labels) | (labels != np.rint(labels)))
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"The {part} labels hold {labels[row]} in row {row}, and a class is a whole "
                "number; correct it, or use `task: regression` if they are values."
            )
    return labels.astype(np.int64)


def _after_outside(number: int, part: str) -> str:
    if number == -1:
        return (
            f"-1 often marks rows without a label: choose another {part} part, or give such rows "
            "as transfer data."
        )
    return "correct it, or name all classes with `classes: [...]`."


def _shortened(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:8])
    return f"({shown}, …)" if len(names) > 8 else f"({shown})"
