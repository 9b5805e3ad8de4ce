"""What is said in sounds, letter by letter: the alphabet of a data set, texts as its numbers."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError
from potstill.functional.tokens import IGNORED

BLANK = 0
"""The class of CTC that says nothing."""


@final
@dataclass(frozen=True)
class Alphabet:
    """The letters that texts are written with.

    Args:
        letters: the blank, then each letter, in order.
    """

    letters: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """The letters that occur, in lower case, after the blank."""
        return cls(("", *sorted({letter for text in texts for letter in plain(text)})))

    def ids(self, text: str) -> list[int]:
        """The number of each letter.

        Raises:
            KeyError: a letter that is none of them.
        """
        numbers = {letter: number for number, letter in enumerate(self.letters)}
        return [numbers[letter] for letter in plain(text)]

    def text(self, ids: Iterable[int]) -> str:
        """The letters of some numbers; blanks and what is below 0 say nothing."""
        return "".join(self.letters[number] for number in ids if number > BLANK)


def plain(text: str) -> str:
    """Lower case, with single spaces."""
    return re.sub(r"\s+", " ", text).strip().lower()


def encoded(texts: Sequence[str], alphabet: Alphabet, *, part: str) -> NDArray[np.int64]:
    """`[N, U]`, the letters of each text, -100 behind its end.

    Raises:
        DataError: a text that is empty or has a letter that the training part has not.
    """
    rows = []
    for number, text in enumerate(texts):
        if not plain(text):
            raise DataError(f"Row {number} of the {part} part has no text; fill or drop such rows.")
        try:
            rows.append(alphabet.ids(text))
        except KeyError as error:
            raise DataError(
                f"Row {number} of the {part} part has the letter {error}, which no training text "
                "has; clean the texts, or move the row to the training part."
            ) from error
    found = np.full((len(rows), max(map(len, rows))), IGNORED, dtype=np.int64)
    for row, ids in enumerate(rows):
        found[row, : len(ids)] = ids
    return found
