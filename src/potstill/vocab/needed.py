"""Which further tokens a tokenizer needs beside those that some texts are written with."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from potstill.errors import DataError
from potstill.vocab.pieces import Spelling, alphabet, spelling_of

Json = dict[str, Any]

_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_SPACE = "▁"


def needed_names(model: Json, wanted: Collection[str], *, parts: Collection[str]) -> set[str]:
    """Names of tokens without which the wanted ones, or other texts, cannot be written.

    Args:
        model: the part of that name in a `tokenizer.json`.
        wanted: names of tokens that are to stay.
        parts: types of its decoders and pre-tokenizers.

    Raises:
        DataError: a model of another kind than BPE, WordPiece, Unigram and WordLevel.
    """
    kinds: dict[str, Callable[[Json, Collection[str], Collection[str]], set[str]]] = {
        "BPE": _of_byte_pairs,
        "WordPiece": _of_wordpieces,
        "Unigram": _of_unigram,
        "WordLevel": _unknown,
    }
    if model["type"] not in kinds:
        raise DataError(
            f"A tokenizer of type {model['type']} cannot be cut to the tokens in use, only "
            f"{', '.join(kinds)}; leave `vocabulary: used` out."
        )
    return kinds[model["type"]](model, wanted, parts)


def _unknown(model: Json, _wanted: Collection[str], _parts: Collection[str]) -> set[str]:
    return {model["unk_token"]} & model["vocab"].keys() if model.get("unk_token") else set()


def _of_byte_pairs(model: Json, wanted: Collection[str], parts: Collection[str]) -> set[str]:
    """Bytes or characters, and all that the wanted tokens are merged from."""
    vocab: Mapping[str, int] = model["vocab"]
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    if spelling_of(parts, ()) is Spelling.BYTE_LEVEL:
        single = alphabet() & vocab.keys()
    elif model.get("byte_fallback"):
        single = ({_SPACE} | _BYTES) & vocab.keys()
    else:
        single = {name for name in vocab if len(_bare(name, prefix, suffix)) == 1}
    single |= {name + suffix for name in single if name + suffix in vocab}
    ranks = {pair_of(merge): rank for rank, merge in enumerate(model["merges"])}
    found = single | _unknown(model, wanted, parts)
    for name in {*wanted, *found} & vocab.keys():
        found |= _merged_from(name, ranks, prefix=prefix, suffix=suffix) & vocab.keys()
    return found


def pair_of(merge: str | Sequence[str]) -> tuple[str, str]:
    """Both parts of a merge, which files write as two texts or as one."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _merged_from(
    name: str, ranks: Mapping[tuple[str, str], int], *, prefix: str, suffix: str
) -> set[str]:
    """The tokens on the way from characters to a token, pair by pair, the best pair first.

    Where a text has the token, nothing reached over its edges, so the way is the same there.
    """
    parts = _characters(name, prefix, suffix)
    seen = set(parts)
    while len(parts) > 1:
        pairs = enumerate(pairwise(parts))
        ranked = [(ranks[pair], place) for place, pair in pairs if pair in ranks]
        if not ranked:
            return set()  # no merges lead to it: it is taken whole, or never
        _, place = min(ranked)
        parts[place : place + 2] = [parts[place] + parts[place + 1][len(prefix) :]]
        seen.add(parts[place])
    return seen


def _characters(name: str, prefix: str, suffix: str) -> list[str]:
    bare = _bare(name, prefix, suffix)
    if not bare:
        return [name]
    inner = bool(prefix) and name.startswith(prefix)
    parts = [c if place == 0 and not inner else prefix + c for place, c in enumerate(bare)]
    if suffix and name.endswith(suffix):
        parts[-1] += suffix
    return parts


def _bare(name: str, prefix: str, suffix: str) -> str:
    return name.removeprefix(prefix).removesuffix(suffix)


def _of_wordpieces(model: Json, wanted: Collection[str], parts: Collection[str]) -> set[str]:
    prefix = model["continuing_subword_prefix"]
    single = {name for name in model["vocab"] if len(_bare(name, prefix, "")) == 1}
    return single | _unknown(model, wanted, parts)


def _of_unigram(model: Json, _wanted: Collection[str], _parts: Collection[str]) -> set[str]:
    """Bytes or characters, what is unknown, and the least likely piece.

    What no piece matches counts as a little less likely than the least likely piece.
    """
    pieces: list[tuple[str, float]] = model["vocab"]
    least = min(pieces, key=lambda piece: piece[1])[0]
    if model.get("byte_fallback"):
        single = {_SPACE} | _BYTES
    else:
        single = {piece for piece, _ in pieces if len(piece) == 1}
    if model.get("unk_id") is not None:
        single.add(pieces[model["unk_id"]][0])
    return {piece for piece, _ in pieces} & (single | {least})
