"""The student's tokens, to which a server's answers are mapped, and the check that they fit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, final

from potstill.errors import RemoteError
from potstill.remote.answers import Candidate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHARE = 0.1  # of compared tokens that may be written differently before they count as others


@final
@dataclass(frozen=True)
class Vocabulary:
    """What each token of the student is in bytes.

    Args:
        pieces: by id, the bytes a token stands for; `None` for ids that no text has.
        size: how many classes the student's head has; ids beyond `pieces` are padding.
        special: ids of tokens such as end-of-text, which servers may write in their own way.
    """

    pieces: tuple[bytes | None, ...]
    size: int
    special: frozenset[int] = frozenset()
    numbers: dict[bytes, int | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers: dict[bytes, int | None] = {}
        for number, piece in enumerate(self.pieces):
            if piece is not None:  # two ids of the same bytes: neither can be told from them
                numbers[piece] = None if piece in numbers else number
        object.__setattr__(self, "numbers", numbers)

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", *, size: int | None = None) -> Self:
        """That of a tokenizer; `size` is the number of classes where the head is padded."""
        special = frozenset(int(i) for i in tokenizer.all_special_ids)
        names: dict[str, int] = tokenizer.get_vocab()
        added = set(tokenizer.get_added_vocab().values())
        pieces: list[bytes | None] = [None] * (max(names.values()) + 1)
        is_byte_level = _is_byte_level(tokenizer)
        for name, number in names.items():
            if number in special or number in added:
                pieces[number] = name.encode()
            else:
                pieces[number] = _byte_level(name) if is_byte_level else _marked(name)
        return cls(tuple(pieces), max(size or 0, len(pieces)), special)

    def number(self, candidate: Candidate) -> int | None:
        """The id of what a server names; `None` if its words fit no token, or several.

        Raises:
            RemoteError: the server's ids go beyond the student's vocabulary.
        """
        if candidate.id is None:
            data = candidate.data
            return self.numbers.get(candidate.text.encode() if data is None else data)
        if candidate.id >= self.size:
            raise RemoteError(
                f"The server's model answers with token {candidate.id} ({candidate.text!r}), and "
                f"the student's vocabulary has {self.size:,} tokens; the teacher has another "
                "tokenizer. Take its answers as texts (`potstill generate`)."
            )
        return candidate.id

    def plain(self) -> int:
        """A token of one ASCII character, which always is whole text.

        Raises:
            RemoteError: there is none.
        """
        for code in (*range(97, 123), *range(33, 97)):
            found = self.numbers.get(bytes([code]))
            if found is not None:
                return found
        raise RemoteError("The student's vocabulary has no token of one plain letter.")

    def refuse_another(self, candidates: Sequence[Candidate]) -> None:
        """Compare ids with the texts that the server gives for them.

        Raises:
            RemoteError: too many are other tokens here than there.
        """
        for candidate in candidates:
            self.number(candidate)
        compared = [c for c in candidates if self._comparable(c)]
        wrong = [c for c in compared if not self._same(c)]
        if compared and len(wrong) > max(1, _SHARE * len(compared)):
            first = wrong[0]
            assert first.id is not None, "only candidates with ids are compared"
            raise RemoteError(
                f"The server's model has another tokenizer than the student: {len(wrong)} of "
                f"{len(compared)} tokens differ (token {first.id} is {first.text!r} there and "
                f"{self._shown(first.id)!r} here). Log-probabilities by token cannot be compared; "
                "take its answers as texts (`potstill generate`)."
            )

    def _comparable(self, candidate: Candidate) -> bool:
        if candidate.id is None or candidate.id in self.special:
            return False
        if candidate.data is not None:
            return True
        # servers show a part of a character as nothing, or with the parts before it
        whole = "\ufffd" not in candidate.text + self._shown(candidate.id)
        return whole and bool(candidate.text.strip(" \u2581"))

    def _same(self, candidate: Candidate) -> bool:
        assert candidate.id is not None, "only candidates with ids are compared"
        piece = self.pieces[candidate.id] if candidate.id < len(self.pieces) else None
        if piece is None:
            return False
        if candidate.data is not None:
            return candidate.data.strip() == piece.strip()
        return _bare(candidate.text) == _bare(self._shown(candidate.id))

    def _shown(self, number: int) -> str:
        piece = self.pieces[number] if number < len(self.pieces) else None
        return "" if piece is None else piece.decode(errors="replace")


def _bare(text: str) -> str:
    """A token without its leading space, which servers write in different ways or leave out."""
    return text.replace("\u2581", " ").replace("\u0120", " ").replace("\u010a", "\n").strip()


def _is_byte_level(tokenizer: "PreTrainedTokenizerBase") -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    return "ByteLevel" in json.dumps(json.loads(backend.to_str()).get("decoder"))


def _letters() -> dict[str, int]:
    """The printable letter that byte-level tokenizers write each byte as (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(others)}


_LETTERS = _letters()


def _byte_level(name: str) -> bytes:
    if all(letter in _LETTERS for letter in name):
        return bytes(_LETTERS[letter] for letter in name)
    return name.encode()


def _marked(name: str) -> bytes:
    """A token of SentencePiece: `▁` is a space, `<0x0A>` a byte."""
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        try:
            return bytes([int(name[3:5], 16)])
        except ValueError:
            pass
    return name.replace("\u2581", " ").encode()
