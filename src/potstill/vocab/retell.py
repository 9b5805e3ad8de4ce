"""One text in the tokens of another model, with the spans that both have."""

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import final

from potstill.vocab.align import Span, align
from potstill.vocab.common import special_pairs
from potstill.vocab.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Retold:
    """A text as the teacher reads it.

    Args:
        ids: the teacher's tokens.
        wanted: which of them stand for text that is learned from.
        spans: stretches of such text, in positions of the student's and of `ids`.
    """

    ids: tuple[int, ...]
    wanted: tuple[bool, ...]
    spans: tuple[Span, ...]


@final
class Interpreter:
    """Turns the student's tokens into the teacher's, and says where both agree.

    Text is decoded to bytes and tokenised again between special tokens, and apart where learning
    begins or ends, so that the first answer token begins on both sides at the same byte. Special
    tokens are not text: they are replaced by their partners, or left out where there is none. The
    teacher begins with its own begin token if it has one.

    Args:
        student: its tokens.
        teacher: its tokens.
        encode: the teacher's tokenizer: text to ids, without special tokens.
        markers: as in `common_tokens`.
    """

    def __init__(
        self,
        student: Vocabulary,
        teacher: Vocabulary,
        *,
        encode: Callable[[str], Sequence[int]],
        markers: Mapping[str, str] | None = None,
    ) -> None:
        self._student, self._teacher, self._encode = student, teacher, encode
        self._partners = special_pairs(student, teacher, markers=markers)
        self._special = student.special_ids

    def retell(self, ids: Sequence[int], wanted: Sequence[bool]) -> Retold:
        """The same text in the teacher's tokens.

        Args:
            ids: the student's tokens, without padding.
            wanted: which of them are learned from.
        """
        begin = self._teacher.roles.get("bos")
        told = [] if begin is None or self._begins(ids) else [begin]
        kept, spans = [False] * len(told), list[Span]()
        for is_special, is_wanted, start, stop in _runs(ids, wanted, self._special):
            here = len(told)
            if is_special:
                partner = self._partners.get(ids[start])
                told += [] if partner is None else [partner]
                found = [] if partner is None else [Span((0, 1), (0, 1))]
            else:
                mine = [self._student.pieces[i] or b"" for i in ids[start:stop]]
                theirs = self._encode(text_of(mine))
                told += theirs
                found = align(mine, [self._teacher.pieces[i] or b"" for i in theirs])
            kept += [is_wanted] * (len(told) - here)
            if is_wanted:
                spans += [moved(span, start, here) for span in found]
        return Retold(tuple(told), tuple(kept), tuple(spans))

    def _begins(self, ids: Sequence[int]) -> bool:
        begin = self._teacher.roles.get("bos")
        return bool(ids) and self._partners.get(ids[0]) == begin


def _runs(
    ids: Sequence[int], wanted: Sequence[bool], special: frozenset[int]
) -> Iterator[tuple[bool, bool, int, int]]:
    """Whether special, whether wanted, and from where to where; a special token is a run alone."""
    numbered = enumerate(zip(ids, wanted, strict=True))

    def kind(item: tuple[int, tuple[int, bool]]) -> tuple[int, bool]:
        place, (token, is_wanted) = item
        return (place if token in special else -1), is_wanted

    for (place, is_wanted), group in groupby(numbered, key=kind):
        places = [number for number, _ in group]
        yield place >= 0, is_wanted, places[0], places[-1] + 1


def text_of(pieces: Sequence[bytes]) -> str:
    """The text of some tokens; a character that is cut off at the end is left out."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(pieces))


def moved(span: Span, student: int, teacher: int) -> Span:
    """A span so many tokens further on, of both sides."""
    (a, b), (c, d) = span
    return Span((a + student, b + student), (c + teacher, d + teacher))
