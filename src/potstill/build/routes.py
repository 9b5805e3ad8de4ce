"""Which teacher of several each sample names, from a recipe."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from potstill.data import DataSet
from potstill.errors import DataError, HandshakeError, RecipeError
from potstill.pipeline.experiment import Route
from potstill.recipe import RouteSpec
from potstill.signals import Batch
from potstill.teachers.fingerprints import array_digest


def route_of(spec: RouteSpec | None, data: DataSet, *, teachers: int) -> Route | None:
    """By a column of a table, or by a file; `None` where nothing is said.

    Raises:
        RecipeError: neither or both, an unknown column, or not one value a teacher.
        DataError: the file cannot be read, or does not name one teacher a row.
    """
    if spec is None:
        return None
    if (spec.feature is None) == (spec.path is None):
        raise RecipeError(
            "`teacher.route` needs `feature` with `values`, or `path`; "
            f"{'neither' if spec.path is None else 'both'} was given."
        )
    if spec.path is not None:
        return _by_file(Path(spec.path).expanduser(), data, teachers=teachers)
    if len(spec.values) != teachers:
        raise RecipeError(
            f"`teacher.route.values` has {len(spec.values)} values for {teachers} teachers; give "
            "the feature's value for each teacher, in order."
        )
    return _by_feature(_column(spec.feature, data), spec.values)


def _column(feature: str | int | None, data: DataSet) -> int:
    if len(data.input_shape) != 1:
        raise RecipeError(
            f"`teacher.route.feature` is a column of a table, and these data are {data.kind}s; use "
            "`teacher.route.path`."
        )
    names = list(data.features or ())
    if isinstance(feature, str) and feature in names:
        return names.index(feature)
    if isinstance(feature, int) and 0 <= feature < data.input_shape[0]:
        return feature
    known = ", ".join(names) or f"0 to {data.input_shape[0] - 1}"
    raise RecipeError(f"`teacher.route.feature` is {feature!r}; known: {known}.")


def _by_feature(column: int, values: tuple[float, ...]) -> Route:
    def choose(batch: Batch) -> Tensor:
        assert batch.raw is not None, "asked for with `reads_raw`"
        apart_BK = (batch.raw[:, column, None] - batch.raw.new_tensor(values)).abs()
        return apart_BK.argmin(1)

    return Route(choose=choose, key=f"feature {column} {values}", reads_raw=True)


def _by_file(path: Path, data: DataSet, *, teachers: int) -> Route:
    try:
        named = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"`teacher.route.path` {path} cannot be read as `.npy`: {error}") from error
    parts = [part for part in (data.train, data.validation, data.test, data.transfer) if part]
    rows = 1 + max(int(part.ids.max()) for part in parts)
    fits = isinstance(named, np.ndarray) and named.ndim == 1 and named.dtype.kind in "iu"
    if not fits or len(named) < rows or named.min() < 0 or named.max() >= teachers:
        raise DataError(
            f"`teacher.route.path` {path} must hold a whole number from 0 to {teachers - 1} for "
            f"each of the {rows} rows of the data; it holds {named.dtype} of shape {named.shape}, "
            f"from {named.min() if named.size else '?'} to {named.max() if named.size else '?'}."
        )
    table = torch.from_numpy(named.astype(np.int64))

    def choose(batch: Batch) -> Tensor:
        if batch.ids is None:
            raise HandshakeError(
                "`teacher.route.path` names a teacher for each row of the data, and mixed samples "
                "are none of them; leave `distill.mix` out."
            )
        return table[batch.ids.cpu()].to(batch.inputs.device)

    return Route(choose=choose, key=f"file {array_digest(named)}")
