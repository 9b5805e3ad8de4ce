"""Picking rows out of encoded bytes, without a loop over rows. All arrays are NumPy's."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.store.codec import Encoded

Whole = NDArray[np.int64]


def spread(starts: Whole, lengths: Whole) -> Whole:
    """`start, start + 1, …, start + length - 1` of every range, one after the other."""
    total = int(lengths.sum())
    ends = np.cumsum(lengths)
    places: Whole = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return places


def take(rows: Encoded, order: Whole) -> Encoded:
    """Some rows, in the order asked for."""
    starts, lengths = rows.offsets[order], rows.offsets[order + 1] - rows.offsets[order]
    return pick(rows.data, starts, lengths)


def pick(source: NDArray[np.uint8], starts: Whole, lengths: Whole) -> Encoded:
    """Ranges of bytes as rows."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    if len(lengths) and (lengths == lengths[0]).all():
        size = int(lengths[0])
        windows = np.lib.stride_tricks.sliding_window_view(source, size) if size else source[:0]
        data = windows[starts].reshape(-1) if size else np.empty(0, np.uint8)
        return Encoded(data, offsets)
    return Encoded(source[spread(starts, lengths)], offsets)


def join(parts: Sequence[Encoded]) -> Encoded:
    """Rows of several, one after the other."""
    if len(parts) == 1:
        return parts[0]
    sizes = [len(part.data) for part in parts]
    bases = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    offsets = [part.offsets[:-1] + base for part, base in zip(parts, bases, strict=False)]
    return Encoded(
        np.concatenate([part.data for part in parts]) if parts else np.empty(0, np.uint8),
        np.concatenate([*offsets, bases[-1:]]).astype(np.int64),
    )
