"""Two tokenisations of one text, cut at the bytes where both have a boundary."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import accumulate
from typing import NamedTuple


class Span(NamedTuple):
    """A stretch of text that both sides have as whole tokens, and that neither can cut further.

    Attributes:
        student: the first token and one past the last.
        teacher: likewise.
    """

    student: tuple[int, int]
    teacher: tuple[int, int]


def align(student: Sequence[bytes], teacher: Sequence[bytes]) -> list[Span]:
    """The spans, in order; tokens whose bytes the other side does not have are in none.

    Bytes, not characters, so tokens may be parts of a character. A space that only one side puts
    in front (sentencepiece's) does not count. Where the texts differ otherwise (a tokenizer that
    changes case, a character it does not know), the spans go on after the difference.

    Args:
        student: the bytes of each token.
        teacher: likewise.
    """
    student, teacher = _without_added_space(student, teacher)
    mine, theirs = b"".join(student), b"".join(teacher)
    to_mine = _positions(mine, theirs)
    ends = {end: token for token, end in enumerate(accumulate(map(len, student), initial=0))}
    spans: list[Span] = []
    begin: tuple[int, int, int, int] | None = None  # token and byte, of both sides
    for token, end in enumerate(accumulate(map(len, teacher), initial=0)):
        here = to_mine[end] if to_mine is not None else end
        if here is None or here not in ends:
            continue
        if begin is not None:
            first, start, their_first, their_start = begin
            same = mine[start:here] == theirs[their_start:end]
            if same and here > start:
                spans.append(Span((first, ends[here]), (their_first, token)))
        begin = (ends[here], here, token, end)
    return spans


def _without_added_space(
    student: Sequence[bytes], teacher: Sequence[bytes]
) -> tuple[Sequence[bytes], Sequence[bytes]]:
    mine, theirs = _starts(student), _starts(teacher)
    if mine == theirs:
        return student, teacher
    if mine:
        return _stripped(student), teacher
    return student, _stripped(teacher)


def _starts(tokens: Sequence[bytes]) -> bool:
    return next((token[:1] == b" " for token in tokens if token), False)


def _stripped(tokens: Sequence[bytes]) -> list[bytes]:
    at = next(place for place, token in enumerate(tokens) if token)
    return [*tokens[:at], tokens[at][1:], *tokens[at + 1 :]]


def _positions(mine: bytes, theirs: bytes) -> list[int | None] | None:
    """For each byte position in `theirs` the one in `mine`; `None` where they are the same."""
    if mine.startswith(theirs):
        return None
    if theirs.startswith(mine):
        return [*range(len(mine) + 1), *[None] * (len(theirs) - len(mine))]
    found: list[int | None] = [None] * (len(theirs) + 1)
    blocks = SequenceMatcher(None, theirs, mine, autojunk=False).get_matching_blocks()
    for theirs_at, mine_at, size in blocks:
        for step in range(size + 1):
            found[theirs_at + step] = mine_at + step
    return found
