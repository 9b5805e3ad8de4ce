"""Models of Transformers cut to some of their tokens: rows of embeddings and heads.

A model cut so says of the tokens that stay just what the whole one says: its states are the same,
and its logits are those columns. A softmax over them shares out among them what the whole model
gives the others, in proportion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.config import Json, ModelConfig

OPTION = "kept_tokens"
"""Of models of Transformers: for each token the number that it has in the weights."""

_MARKS = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id")
_ALL_MARKS = (*_MARKS, "unk_token_id", "mask_token_id", "decoder_start_token_id")


def with_kept(options: Mapping[str, Json], kept: Sequence[int] | None) -> Mapping[str, Json]:
    """The options of a model of source `hf` for a tokenizer that was cut to the tokens in use."""
    if kept is None:
        return options
    if "model_type" not in options:
        return {**options, OPTION: list(kept)}
    given = options.get("config", {})
    changes = given if isinstance(given, Mapping) else {}
    return {**options, "config": {"vocab_size": len(kept), **changes}}


def kept_of(config: ModelConfig) -> list[int] | None:
    """The tokens that a config asks to keep; `None` for all.

    Raises:
        ModelError: something else than a list of whole numbers.
    """
    value = config.options.get(OPTION)
    if value is None:
        return None
    if not isinstance(value, Sequence) or not all(type(number) is int for number in value):
        raise ModelError(f"The option `{OPTION}` of `{config.name}` must be a list of numbers.")
    return [int(str(number)) for number in value]


def without_kept(config: ModelConfig) -> tuple[ModelConfig, list[int] | None]:
    """The config of the whole model, and the tokens that it is to keep."""
    options = {name: value for name, value in config.options.items() if name != OPTION}
    return replace(config, options=options), kept_of(config)


def cut_tokens(model: nn.Module, kept: Sequence[int] | None) -> nn.Module:
    """The same model of Transformers with the rows of some tokens, changed in place.

    Args:
        model: of Transformers, or something of Potstill that holds one as `model`.
        kept: for each new number the old one; `None` changes nothing.

    Raises:
        ModelError: it has fewer tokens, or keeps something by token that is not known here.
    """
    if kept is None:
        return model
    inner = cast("Any", model if hasattr(model, "get_input_embeddings") else model.model)
    table, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    _check(inner, table, kept)
    index = torch.tensor(list(kept), device=table.weight.device)
    tied = head is not None and head.weight is table.weight
    table.weight = _rows(table.weight, index)
    table.num_embeddings = len(kept)
    if table.padding_idx is not None:
        table.padding_idx = _place(kept, table.padding_idx)
    if head is not None:
        head.weight = table.weight if tied else _rows(head.weight, index)
        if getattr(head, "bias", None) is not None:
            head.bias = _rows(head.bias, index)
        head.out_features = len(kept)
    inner.config.vocab_size = len(kept)
    for config in (inner.config, getattr(inner, "generation_config", None)):
        _renumber(config, kept)
    return model


def _check(inner: Any, table: object, kept: Sequence[int]) -> None:  # noqa: ANN401  of Transformers
    if not isinstance(table, nn.Embedding) or not hasattr(inner.config, "vocab_size"):
        raise ModelError(
            f"{type(inner).__name__} has no plain table of tokens, so it cannot be cut to the "
            "tokens in use; leave `vocabulary: used` out."
        )
    if hasattr(inner.config, "vocab_size_per_layer_input"):
        raise ModelError(
            f"{type(inner).__name__} keeps a table of tokens for every layer, which is not cut to "
            "the tokens in use; leave `vocabulary: used` out."
        )
    if max(kept) >= table.num_embeddings:
        raise ModelError(
            f"{type(inner).__name__} has {table.num_embeddings} tokens and its tokenizer numbers "
            f"up to {max(kept)}; use the model's own tokenizer (`data.tokenizer`)."
        )


def _rows(weight: Tensor, index: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach()[index].clone(), requires_grad=weight.requires_grad)


def _renumber(config: object, kept: Sequence[int]) -> None:
    """Marks of a config at their new places; those that are gone are nobody's."""
    for mark in _ALL_MARKS:
        number = getattr(config, mark, None)
        if isinstance(number, int):
            setattr(config, mark, _place(kept, number))
        elif isinstance(number, list):
            places = [_place(kept, each) for each in number]
            setattr(config, mark, [place for place in places if place is not None] or None)


def _place(kept: Sequence[int], number: int) -> int | None:
    return kept.index(number) if number in kept else None
