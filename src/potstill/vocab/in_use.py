"""A tokenizer cut to the tokens that some texts need, so that embeddings can be cut with it.

The texts come out in the same tokens as before, and every text that could be written still can be.
That holds because a tokenizer chooses the best of what it has, and the best stays: byte pairs are
merged in the same order, words are matched by the same longest pieces, and the likeliest path is
among those that are left.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from potstill.errors import DataError, need
from potstill.vocab.needed import needed_names, pair_of
from potstill.vocab.vocabulary import parts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Json = dict[str, Any]

_MARKS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
_CARRIED = ("model_max_length", "padding_side", "truncation_side", "model_input_names")


@dataclass(frozen=True)
class InUse:
    """A smaller tokenizer.

    Args:
        tokenizer: with ids from 0 without gaps, in the order of before.
        kept: for each of its ids the id that the token had.
        before: how many tokens there were.
    """

    tokenizer: "PreTrainedTokenizerBase"
    kept: tuple[int, ...]
    before: int


def cut_to_use(tokenizer: "PreTrainedTokenizerBase", used: Iterable[int]) -> InUse:
    """The tokenizer with the tokens of some texts, and what it takes to write any other text.

    Beside the tokens in use stay added and special ones, single bytes (or, without these,
    characters), and of byte pairs all that the tokens in use are merged from.

    Args:
        tokenizer: of Transformers, with a `tokenizer.json` inside (a fast one).
        used: ids of tokens that the texts are written with.

    Raises:
        DataError: a tokenizer of another kind, or one whose ids cannot be changed.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError(
            f"A {type(tokenizer).__name__} has no `tokenizer.json`, which cutting it to the tokens "
            "in use edits; leave `vocabulary: used` out, or give a fast tokenizer."
        )
    whole: Json = json.loads(backend.to_str())
    numbers = {**_names(whole["model"]), **{t["content"]: t["id"] for t in whole["added_tokens"]}}
    names = {number: name for name, number in numbers.items()}
    wanted = {names[number] for number in {*used, *tokenizer.all_special_ids} if number in names}
    wanted |= {token["content"] for token in whole["added_tokens"]}
    wanted |= needed_names(whole["model"], wanted, parts=parts_of(whole))
    kept = sorted(numbers[name] for name in wanted)
    places = {names[number]: place for place, number in enumerate(kept)}
    made = need("tokenizers", extra="text").Tokenizer.from_str(json.dumps(_cut(whole, places)))
    if any(made.token_to_id(name) != place for name, place in places.items()):
        raise DataError(
            "This tokenizer numbers its added tokens among the others, so it cannot be cut to the "
            "tokens in use; leave `vocabulary: used` out."
        )
    return InUse(_wrapped(made, tokenizer), tuple(kept), len(numbers))


def _names(model: Json) -> dict[str, int]:
    """The tokens of the model and their numbers, without added ones."""
    if model["type"] == "Unigram":
        return {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _cut(whole: Json, places: Mapping[str, int]) -> Json:
    """The description with the tokens that stay, at their new places."""
    cut = {**whole, "truncation": None, "padding": None}
    cut["model"] = _cut_model(whole["model"], places)
    cut["added_tokens"] = [
        {**token, "id": places[token["content"]]} for token in whole["added_tokens"]
    ]
    cut["post_processor"] = _renumbered(whole["post_processor"], places)
    return cut


def _cut_model(model: Json, places: Mapping[str, int]) -> Json:
    if model["type"] == "Unigram":
        vocab = [entry for entry in model["vocab"] if entry[0] in places]
        unknown = model.get("unk_id")
        if unknown is not None:
            unknown = places[model["vocab"][unknown][0]]
        return {**model, "vocab": vocab, "unk_id": unknown}
    kept = {**model, "vocab": {n: places[n] for n in model["vocab"] if n in places}}
    if model["type"] == "BPE":
        prefix = model.get("continuing_subword_prefix") or ""
        kept["merges"] = [
            merge
            for merge in model["merges"]
            if {*(pair := pair_of(merge)), pair[0] + pair[1][len(prefix) :]} <= places.keys()
        ]
    return kept


def _renumbered(part: object, places: Mapping[str, int]) -> object:
    """A post-processor whose special tokens have their new numbers."""
    if isinstance(part, list):
        return [_renumbered(each, places) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") in ("BertProcessing", "RobertaProcessing"):
        ends = {side: [part[side][0], places[part[side][0]]] for side in ("sep", "cls")}
        return {**part, **ends}
    if part.get("type") == "TemplateProcessing":
        special = {
            name: {**each, "ids": [places[token] for token in each["tokens"]]}
            for name, each in part["special_tokens"].items()
        }
        return {**part, "special_tokens": special}
    return {name: _renumbered(value, places) for name, value in part.items()}


def _wrapped(made: object, like: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    """The tokenizer as Transformers has it, with the marks and the chat template of another."""
    told: Json = {name: getattr(like, name) for name in _CARRIED}
    told |= {mark: getattr(like, mark, None) for mark in (*_MARKS, "mask_token")}
    others = [t for t in like.all_special_tokens if t not in told.values()]
    fast = need("transformers", extra="text").PreTrainedTokenizerFast
    wrapped = fast(
        tokenizer_object=made,
        additional_special_tokens=others,
        clean_up_tokenization_spaces=getattr(like, "clean_up_tokenization_spaces", False),
        **{name: value for name, value in told.items() if value is not None},
    )
    wrapped.chat_template = like.chat_template
    return cast("PreTrainedTokenizerBase", wrapped)
