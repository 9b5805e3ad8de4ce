"""Texts that models wrote down about sounds, from what is kept of each: letters by number."""

import numpy as np
from numpy.typing import NDArray


def text_of(letters_K: NDArray[np.floating], names: tuple[str, ...]) -> str:
    """The text of some letters; what is 0 or below says nothing."""
    return "".join(names[int(n)] for n in letters_K if 0 < n < len(names))


def unlike(written_NK: NDArray[np.floating], labels_NU: NDArray[np.floating]) -> NDArray[np.bool_]:
    """`[N]`, whether the letters (behind the first column) are others than those of the labels."""
    mine, theirs = written_NK[:, 1:], labels_NU
    width = max(mine.shape[1], theirs.shape[1])

    def padded(rows: NDArray[np.floating]) -> NDArray[np.floating]:
        filled = np.where(rows < 0, -1, rows)
        return np.pad(filled, ((0, 0), (0, width - rows.shape[1])), constant_values=-1)

    return np.asarray((padded(mine) != padded(theirs)).any(axis=1))
