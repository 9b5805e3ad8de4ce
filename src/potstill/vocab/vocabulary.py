"""A tokenizer's vocabulary as bytes."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from potstill.errors import DataError
from potstill.vocab.pieces import is_single_byte, reader, spelling_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROLES = ("bos", "eos", "pad", "unk")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a tokenizer.

    Args:
        pieces: for each id the bytes it stands for; `None` for special tokens and for ids that no
            token has. Pieces need not be whole UTF-8 characters.
        special: the special tokens, by their names.
        roles: the ids of "bos", "eos", "pad" and "unk", as far as there are any.
        spare: ids whose bytes another token is the usual one for (single bytes of sentencepiece).
    """

    pieces: tuple[bytes | None, ...]
    special: Mapping[str, int] = field(default_factory=dict)
    roles: Mapping[str, int] = field(default_factory=dict)
    spare: frozenset[int] = frozenset()

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """The vocabulary of a tokenizer of Transformers.

        Raises:
            DataError: it has no tokens.
        """
        names = dict(tokenizer.get_vocab())
        if not names:
            raise DataError("The tokenizer has no tokens; give one that was trained.")
        special = _special_tokens(tokenizer)
        backend = getattr(tokenizer, "backend_tokenizer", None)  # slow tokenizers have none
        parts = set() if backend is None else parts_of(json.loads(backend.to_str()))
        spelling = spelling_of(parts, names)
        read = reader(spelling)
        pieces: list[bytes | None] = [None] * (max(names.values()) + 1)
        for name, number in names.items():
            pieces[number] = None if number in special.values() else read(name)
        for number, token in tokenizer.added_tokens_decoder.items():
            if number not in special.values():
                pieces[number] = str(token.content).encode()  # added tokens are written as they are
        found = {role: getattr(tokenizer, f"{role}_token_id") for role in _ROLES}
        spare = {i for name, i in names.items() if is_single_byte(name, spelling)}
        roles = {role: number for role, number in found.items() if number is not None}
        return cls(tuple(pieces), special, roles, frozenset(spare))

    @property
    def size(self) -> int:
        """One more than the highest id: what a head must have at least."""
        return len(self.pieces)

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of special tokens, those with a role included."""
        return frozenset(self.special.values()) | frozenset(self.roles.values())

    def tokens(self) -> Iterator[int]:
        """The ids that a token has, special ones included."""
        special = self.special_ids
        return (i for i, piece in enumerate(self.pieces) if piece is not None or i in special)

    def fingerprint(self) -> str:
        """Hex digest of what every id means."""
        whole = hashlib.sha256()
        for piece in self.pieces:
            data = b"" if piece is None else piece
            whole.update(b"%d:" % (len(data) if piece is not None else -1) + data)
        whole.update(repr((sorted(self.special.items()), sorted(self.roles.items()))).encode())
        return whole.hexdigest()

    def same_as(self, other: "Vocabulary") -> bool:
        """Whether every id means the same, so that no mapping is needed."""
        mine, theirs = self._bare(), other._bare()
        return mine == theirs and dict(self.special) == dict(other.special)

    def _bare(self) -> tuple[bytes | None, ...]:
        last = max(self.tokens(), default=-1)
        return self.pieces[: last + 1]


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    special = {
        str(token.content): number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special
    }
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return special | {str(name): int(number) for name, number in named}


def parts_of(description: object) -> set[str]:
    """The types of all decoders and pre-tokenizers in a `tokenizer.json`."""
    assert isinstance(description, dict)
    found: set[str] = set()

    def walk(part: object) -> None:
        if isinstance(part, list):
            for inner in part:
                walk(inner)
        elif isinstance(part, dict):
            found.add(str(part.get("type")))
            for inner in part.values():
                walk(inner)

    walk(description.get("decoder"))
    walk(description.get("pre_tokenizer"))
    return found
