"""Texts as models read them: planes of whole numbers, right-padded, cut to the longest.

Shapes: B texts, P planes (token ids, attention mask, perhaps token types), L positions.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # files are measured where torch is not installed
    from torch import Tensor

MASK = 1
"""The plane that is 1 where a token stands and 0 in the padding."""

PLACES = 2
"""Of language models, the plane that counts from 0 within each of several texts in one row."""

PAIRED = 4
"""How many planes pairs of a text read and a text written have: tokens and mask, twice."""

NAMES = ("input_ids", "attention_mask", "token_type_ids")
"""The planes in order, as Transformers and exported files call them."""

Planes = TypeVar("Planes", "Tensor", NDArray[np.generic])


def lengths_of(planes_BPL: "Tensor") -> "Tensor":
    """`[B]` int64: how many tokens each text has; of pairs of planes, the longer of both texts."""
    if planes_BPL.shape[1] == PAIRED:
        return planes_BPL[:, MASK::2].long().sum(-1).amax(1)
    return planes_BPL[:, MASK].long().sum(-1)


def trimmed(planes_BPL: Planes) -> Planes:
    """The same texts, padded on the right, without the padding that none of them needs; a view."""
    masks = slice(MASK, None, 2) if planes_BPL.shape[1] == PAIRED else slice(MASK, MASK + 1)
    longest = int(planes_BPL[:, masks].sum(-1).max())
    return planes_BPL[:, :, : max(1, longest)]


def are_texts(rows: NDArray[np.generic]) -> bool:
    """Whether an array holds planes: no other samples of rank 2 are int64."""
    return rows.ndim == 3 and rows.dtype == np.int64


def by_row(answers: NDArray[np.generic], rows: NDArray[np.generic]) -> NDArray[np.generic]:
    """Of texts that are answered position by position, the answers where a token stands."""
    if not are_texts(rows) or answers.ndim != 3:
        return answers
    chosen: NDArray[np.generic] = answers[rows[:, MASK, : answers.shape[1]].astype(bool)]
    return chosen


def fed(names: Sequence[str], rows: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
    """What a file with these inputs is given: the rows, or one plane of them each."""
    if len(names) == 1:
        return {names[0]: rows}
    return {name: np.ascontiguousarray(rows[:, NAMES.index(name)]) for name in names}
