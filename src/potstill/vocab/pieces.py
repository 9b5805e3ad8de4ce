"""From the names of tokens in a tokenizer's file to the bytes they stand for."""

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import cache

_BYTE = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")


class Spelling(StrEnum):
    """How a family of tokenizers writes bytes in the names of tokens."""

    BYTE_LEVEL = "byte-level"  # one printable character a byte, `Ġ` for a space (GPT-2)
    SENTENCEPIECE = "sentencepiece"  # `▁` for a space, `<0xE2>` for a single byte (Llama)
    WORDPIECE = "wordpiece"  # `##ing` continues a word, all others begin one (BERT)
    PLAIN = "plain"  # the text itself


def reader(spelling: Spelling) -> Callable[[str], bytes]:
    """What turns a name into bytes."""
    return {
        Spelling.BYTE_LEVEL: _byte_level,
        Spelling.SENTENCEPIECE: _sentencepiece,
        Spelling.WORDPIECE: _wordpiece,
        Spelling.PLAIN: _plain,
    }[spelling]


def is_single_byte(name: str, spelling: Spelling) -> bool:
    """Whether the token stands in for a byte that has no token of its own."""
    return spelling is Spelling.SENTENCEPIECE and _BYTE.match(name) is not None


def spelling_of(parts: Iterable[str], names: Iterable[str]) -> Spelling:
    """How a tokenizer writes bytes.

    Args:
        parts: the types of its decoders and pre-tokenizers, as `tokenizers` names them.
        names: of its tokens; they decide where no part tells.
    """
    known = set(parts)
    if "ByteLevel" in known:
        return Spelling.BYTE_LEVEL
    if known & {"Metaspace", "ByteFallback"}:
        return Spelling.SENTENCEPIECE
    if "WordPiece" in known:
        return Spelling.WORDPIECE
    starts = [name[:1] for name in names if len(name) > 1]
    for sign, spelling in (("Ġ", Spelling.BYTE_LEVEL), ("▁", Spelling.SENTENCEPIECE)):
        if starts.count(sign) > len(starts) / 20:
            return spelling
    return Spelling.PLAIN


def alphabet() -> set[str]:
    """The characters that stand for the 256 bytes where spelling is byte-level."""
    return set(_bytes_of_characters())


def _byte_level(name: str) -> bytes:
    table = _bytes_of_characters()
    if all(character in table for character in name):
        return bytes(table[character] for character in name)
    return name.encode()  # an added token, which is written as it is


@cache
def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes are themselves, the others follow from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


def _sentencepiece(name: str) -> bytes:
    byte = _BYTE.match(name)
    return bytes([int(byte.group(1), 16)]) if byte else name.replace("▁", " ").encode()


def _plain(name: str) -> bytes:
    return name.encode()


def _wordpiece(name: str) -> bytes:
    return name[2:].encode() if name.startswith("##") and len(name) > 2 else b" " + name.encode()
