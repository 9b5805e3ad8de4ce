"""A conversation in a teacher's own chat template, with the answers where both sides have them.

Templates differ in all but the contents of messages: marks of roles, line breaks, a mark of the
beginning that only one side has. So the teacher is given its own rendering, and only what the
assistant says, and the mark that ends it, is compared.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, final

from potstill.errors import DataError
from potstill.vocab.align import Span, align
from potstill.vocab.retell import Retold, moved, text_of
from potstill.vocab.templates import Message, rendered, turn_of
from potstill.vocab.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE: tuple[Message, ...] = (
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
)


class _Answer(NamedTuple):
    """Tokens of the student that are learned from: of a content, and the special one behind it."""

    start: int
    stop: int
    ended: bool
    text: str


@final
class ChatInterpreter:
    """Turns the student's rendering of a conversation into the teacher's.

    Args:
        student: its tokens.
        teacher: its tokens.
        tokenizer: the teacher's, with a chat template.
    """

    def __init__(
        self, student: Vocabulary, teacher: Vocabulary, tokenizer: "PreTrainedTokenizerBase"
    ) -> None:
        self._student, self._teacher, self._tokenizer = student, teacher, tokenizer

    def retell(
        self, ids: Sequence[int], wanted: Sequence[bool], messages: Sequence[Message]
    ) -> Retold | None:
        """The conversation in the teacher's tokens; `None` where it cannot be written so.

        Answers are taken from the student's tokens, so they may be cut short, or be its own words
        in place of the last message.

        Args:
            ids: the student's tokens, without padding.
            wanted: which of them are learned from.
            messages: the conversation that was rendered.
        """
        answers = self._answers(ids, wanted)
        which = _matched([answer.text for answer in answers], messages)
        if which is None:
            return None
        talk = [dict(message) for message in messages[: which[-1] + 1]]
        for number, answer in zip(which, answers, strict=True):
            talk[number]["content"] = answer.text.strip()
        try:
            whole = rendered(self._tokenizer, talk)
            turns = [turn_of(self._tokenizer, talk, number, whole) for number in which]
        except DataError:
            return None  # a role that the teacher's template does not know, for example
        return self._told(ids, answers, whole, turns)

    def _answers(self, ids: Sequence[int], wanted: Sequence[bool]) -> list[_Answer]:
        special = self._student.special_ids
        found = []
        for is_wanted, run in groupby(range(len(ids)), key=lambda place: wanted[place]):
            places = list(run)
            if not is_wanted:
                continue
            start, stop = places[0], places[-1] + 1
            end = next((place for place in places if ids[place] in special), stop)
            found.append(_Answer(start, end, end < stop, text_of(self._pieces(ids[start:end]))))
        return found

    def _pieces(self, ids: Sequence[int]) -> list[bytes]:
        return [self._student.pieces[number] or b"" for number in ids]

    def _told(
        self,
        ids: Sequence[int],
        answers: Sequence[_Answer],
        whole: str,
        turns: Sequence[tuple[int, int] | None],
    ) -> Retold | None:
        told, kept, spans, at = list[int](), list[bool](), list[Span](), 0
        for answer, turn in zip(answers, turns, strict=True):
            content = answer.text.strip()
            begin = -1 if turn is None else whole.find(content, *turn)
            if turn is None or begin < 0:
                return None
            end = begin + len(content)
            told += self._encode(whole[at:begin])
            theirs, closing = self._encode(whole[begin:end]), self._encode(whole[end : turn[1]])
            kept += [False] * (len(told) - len(kept)) + [True] * len(theirs)
            mine = self._pieces(ids[answer.start : answer.stop])
            pieces = [self._teacher.pieces[number] or b"" for number in theirs]
            spans += [moved(span, answer.start, len(told)) for span in align(mine, pieces)]
            told += theirs
            if answer.ended and closing and closing[0] in self._teacher.special_ids:
                mark = Span((0, 1), (0, 1))
                spans.append(moved(mark, answer.stop, len(told)))
                kept.append(True)
            told, at = told + closing, turn[1]
            kept += [False] * (len(told) - len(kept))
        return Retold(tuple(told), tuple(kept), tuple(spans))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def turn_ends(
    student: "PreTrainedTokenizerBase", teacher: "PreTrainedTokenizerBase"
) -> dict[str, str]:
    """The special tokens that end an answer in both templates, as a marker; none if unknown."""
    mine, theirs = _turn_end(student), _turn_end(teacher)
    return {} if mine is None or theirs is None else {mine: theirs}


def _turn_end(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    try:
        whole = rendered(tokenizer, _PROBE)
        turn = turn_of(tokenizer, _PROBE, 1, whole)
    except DataError:
        return None
    if turn is None:
        return None
    closing = whole[whole.find("b", *turn) + 1 : turn[1]]
    ids = tokenizer(closing, add_special_tokens=False)["input_ids"]
    special = {number: name for name, number in Vocabulary.of(tokenizer).special.items()}
    return special.get(ids[0]) if ids else None


def _matched(texts: Sequence[str], messages: Sequence[Message]) -> list[int] | None:
    """Which message of the assistant each answer is; the last may be words of the student's own."""
    left = [number for number, each in enumerate(messages) if each.get("role") == "assistant"]
    if not left or not texts or not all(text.strip() for text in texts):
        return None
    last, found = left[-1], list[int]()
    for place, text in enumerate(texts):
        contents = ((number, str(messages[number].get("content")).strip()) for number in left)
        fits = next((number for number, c in contents if c.startswith(text.strip())), None)
        if fits is None:
            fits = last if place == len(texts) - 1 else None
        if fits is None or fits not in left:
            return None
        found.append(fits)
        left = [number for number in left if number > fits]
    return found
