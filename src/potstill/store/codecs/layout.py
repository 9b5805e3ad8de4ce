"""Rows among bytes: equal sizes, sizes of their own, and sentences for bytes that do not fit.

N rows · B bytes of a row · M items of all rows, one row after the other.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from potstill.errors import StoreError
from potstill.store.codec import Encoded

_Number = TypeVar("_Number", bound=np.generic)

Bytes = NDArray[np.uint8]
Whole = NDArray[np.int64]


def damaged(codec: str, what: str) -> StoreError:
    """The error for bytes that `encode` did not write."""
    return StoreError(
        f"A stored row of codec `{codec}` cannot be read: {what}. "
        "The store is damaged or was written with other options; label again."
    )


def sizes_of(rows: Encoded, codec: str) -> Whole:
    """`[N]`, the bytes of each row.

    Raises:
        StoreError: offsets that go backwards or beyond the data.
    """
    data, offsets = rows.data, rows.offsets
    shaped = data.ndim == 1 and data.dtype == np.uint8 and offsets.ndim == 1 and len(offsets) >= 1
    if not shaped:
        raise damaged(codec, f"its data are {data.dtype}, its offsets of shape {offsets.shape}")
    sizes = np.diff(offsets)
    if offsets[0] < 0 or offsets[-1] > len(data) or (sizes < 0).any():
        raise damaged(codec, f"its offsets leave the {len(data)} bytes that there are")
    return sizes


def as_bytes(numbers: NDArray[np.generic]) -> Bytes:
    """`[N, B]`, the bytes of each row of numbers (in little-endian order already)."""
    size = math.prod(numbers.shape[1:]) * numbers.itemsize
    return np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).reshape(len(numbers), size)


def fixed(rows_NB: Bytes) -> Encoded:
    """Rows of one size, one after the other."""
    num_rows, size = rows_NB.shape
    offsets = np.arange(num_rows + 1, dtype=np.int64) * size
    return Encoded(np.ascontiguousarray(rows_NB).reshape(-1), offsets)


def read_fixed(rows: Encoded, size: int, codec: str) -> Bytes:
    """`[N, B]`, a view of rows that `fixed` laid out.

    Raises:
        StoreError: a row of another size.
    """
    sizes = sizes_of(rows, codec)
    if (sizes != size).any():
        raise damaged(codec, f"it has {int(sizes[sizes != size][0])} bytes where {size} belong")
    first = int(rows.offsets[0])
    return rows.data[first : first + len(rows) * size].reshape(len(rows), size)


def ragged(counts_N: Whole) -> tuple[Whole, Whole]:
    """`[M]` and `[M]`: the row of each item, and its place in that row."""
    row_M = np.repeat(np.arange(len(counts_N)), counts_N)
    begins_N = np.cumsum(counts_N) - counts_N
    return row_M, np.arange(len(row_M)) - begins_N[row_M]


def padded(
    flat_M: NDArray[_Number], row_M: Whole, place_M: Whole, num_rows: int, fill: float
) -> NDArray[_Number]:
    """`[N, K]`: items in their rows, `fill` behind the shorter ones; K is at least 1."""
    width = int(place_M.max()) + 1 if len(place_M) else 1
    table = np.full((num_rows, width), fill, dtype=flat_M.dtype)
    table[row_M, place_M] = flat_M
    return table
