"""From tokenised texts to rows of a batch: cut into blocks, one a row, or packed.

Shapes: N rows, P planes (token ids, attention mask, of packed rows places), L positions.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.functional.tokens import next_tokens


class Rows(StrEnum):
    """How texts fill rows."""

    BLOCKS = "blocks"  # one stream of all texts, cut every so many tokens
    SINGLE = "single"  # a row a text, padded
    PACKED = "packed"  # several whole texts a row, each of which sees itself alone


@final
@dataclass(frozen=True)
class Encoded:
    """A text in tokens.

    Args:
        ids: the tokens.
        answers: which of them are to be predicted; all but the first where left out.
    """

    ids: Sequence[int]
    answers: Sequence[bool] | None = field(default=None)


class Table(NamedTuple):
    """Rows, what is asked in them, and how many texts lost their end."""

    planes_NPL: NDArray[np.int32]
    labels_NL: NDArray[np.int64]
    cut: int
    asks: Sequence[bool] = ()  # which rows were not left out


def lay_out(texts: Sequence[Encoded], how: Rows, *, length: int, pad: int) -> Table:
    """Rows of at most `length` tokens; rows that ask nothing are left out.

    Args:
        texts: in order, each with its end mark if it is to have one.
        how: see `Rows`.
        length: L at most.
        pad: the token that stands where none does.
    """
    match how:
        case Rows.BLOCKS:
            table = _blocks(texts, length, pad)
        case Rows.SINGLE:
            groups = [[number] for number in range(len(texts))]
            table = _side_by_side(texts, groups, length, pad, places=False)
        case Rows.PACKED:
            sizes = [min(len(text.ids), length) for text in texts]
            table = _side_by_side(texts, packed(sizes, length), length, pad, places=True)
    asks = np.asarray((table.labels_NL >= 0).any(axis=1))
    return Table(table.planes_NPL[asks], table.labels_NL[asks], table.cut, list(asks))


def packed(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Which texts share a row of `length`: best fit, the longest first; each row in order."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # what is left of each row that is not full, rising
    for number in sorted(range(len(sizes)), key=lambda n: (-sizes[n], n)):
        at = bisect_left(room, (sizes[number], -1))
        if at < len(room):
            left, row = room.pop(at)
            rows[row].append(number)
        else:
            left, row = length, len(rows)
            rows.append([number])
        if left > sizes[number]:
            insort(room, (left - sizes[number], row))
    return [sorted(row) for row in sorted(rows, key=min)]


def _blocks(texts: Sequence[Encoded], length: int, pad: int) -> Table:
    """Every token of the stream but the first is asked for once: blocks overlap by one token."""
    stream = np.fromiter((i for text in texts for i in text.ids), dtype=np.int64)
    num_rows = max(1, -(-(len(stream) - 1) // length))
    padded = np.full(num_rows * length + 1, pad, dtype=np.int64)
    padded[: len(stream)] = stream
    stands = np.arange(len(padded)) < len(stream)
    at_NM = np.arange(num_rows)[:, None] * length + np.arange(length + 1)
    ids_NM, stands_NM = padded[at_NM], stands[at_NM]
    labels = next_tokens(torch.from_numpy(ids_NM), torch.from_numpy(stands_NM.astype(np.int64)))
    planes = np.stack([ids_NM, stands_NM], axis=1)[:, :, :length].astype(np.int32)
    return Table(planes, labels[:, :length].numpy(), 0)


def _side_by_side(
    texts: Sequence[Encoded],
    groups: Sequence[Sequence[int]],
    length: int,
    pad: int,
    *,
    places: bool,
) -> Table:
    sizes = [min(len(text.ids), length) for text in texts]
    longest = max((sum(sizes[number] for number in group) for group in groups), default=1)
    shape = (len(groups), max(1, longest))
    ids_NL = np.full(shape, pad, dtype=np.int64)
    texts_NL, places_NL = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    answers_NL = np.ones(shape, dtype=bool)
    for row, group in enumerate(groups):
        at = 0
        for order, number in enumerate(group, start=1):
            text, size = texts[number], sizes[number]
            here = slice(at, at + size)
            ids_NL[row, here] = text.ids[:size]
            texts_NL[row, here], places_NL[row, here] = order, np.arange(size)
            if text.answers is not None:
                answers_NL[row, here] = text.answers[:size]
            at += size
    labels = next_tokens(*(torch.from_numpy(a) for a in (ids_NL, texts_NL, answers_NL)))
    planes = [ids_NL, texts_NL > 0, *([places_NL] if places else [])]
    cut = sum(len(text.ids) > length for text in texts)
    return Table(np.stack(planes, axis=1).astype(np.int32), labels.numpy(), cut)
