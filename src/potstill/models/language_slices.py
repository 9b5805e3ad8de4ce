"""The settings and weights of a language model of which some layers, channels, heads, neurons stay.

What stays is said by number: `layers` of the teacher, `channels` of the hidden state, and for each
layer that stays `heads` and `neurons`; a part that is not mentioned stays whole.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor

from potstill.models.config import Json
from potstill.models.language import LanguageModel
from potstill.models.language_importance import layers_of


def smaller(config: Any, kept: Sequence[int], chosen: Mapping[str, Json]) -> Any:  # noqa: ANN401
    """The teacher's settings with the sizes of what stays."""
    settings = deepcopy(config)
    if chosen.keys() & {"channels", "heads"}:  # else it follows from the sizes that change
        head = getattr(config, "head_dim", None)
        settings.head_dim = head or config.hidden_size // config.num_attention_heads
    settings.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None) is not None:
        settings.layer_types = [config.layer_types[i] for i in kept]
    sizes = {"channels": "hidden_size", "neurons": "intermediate_size"}
    for part, name in {**sizes, "heads": "num_attention_heads"}.items():
        if part in chosen:
            numbers = cast("Sequence[Any]", chosen[part])
            setattr(settings, name, len(numbers if part == "channels" else numbers[0]))
    return settings


def sliced(
    teacher: LanguageModel, kept: Sequence[int], chosen: Mapping[str, Json]
) -> dict[str, Tensor]:
    """The teacher's weights, of what stays, under the names that they have in the student."""
    prefix, _ = layers_of(teacher)
    inner = cast("Any", teacher.model)
    channels = _index(chosen.get("channels"))
    head = getattr(inner.config, "head_dim", None)
    head = head or inner.config.hidden_size // inner.config.num_attention_heads
    found: dict[str, Tensor] = {}
    for name, value in inner.state_dict().items():
        if not name.startswith(f"{prefix}."):
            found[name] = _channels(name, value, channels)
            continue
        number, rest = name[len(prefix) + 1 :].split(".", 1)
        if int(number) not in kept:
            continue
        place = kept.index(int(number))
        neurons, heads = (_index(chosen.get(part), place) for part in ("neurons", "heads"))
        if heads is not None:
            heads = (heads[:, None] * head + torch.arange(head)).flatten()
        part = _of_layer(rest, _channels(rest, value, channels), heads, neurons)
        found[f"{prefix}.{place}.{rest}"] = part
    return found


def _channels(name: str, value: Tensor, channels: Tensor | None) -> Tensor:
    """What stays of a weight when some channels of the hidden state do."""
    if channels is None:
        return value
    parts = name.split(".")
    if parts[-2] in ("o_proj", "down_proj", "input_layernorm", "post_attention_layernorm", "norm"):
        return value[channels]
    reads = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "embed_tokens", "lm_head")
    return value[:, channels] if parts[-2] in reads and value.ndim == 2 else value


def _of_layer(name: str, value: Tensor, heads: Tensor | None, neurons: Tensor | None) -> Tensor:
    """What stays of a layer's weight when some heads and neurons do."""
    part = name.split(".")[-2]
    if heads is not None and part == "q_proj":
        return value[heads]
    if heads is not None and part == "o_proj" and value.ndim == 2:
        return value[:, heads]
    if neurons is not None and part in ("gate_proj", "up_proj"):
        return value[neurons]
    if neurons is not None and part == "down_proj" and value.ndim == 2:
        return value[:, neurons]
    return value


def _index(chosen: Json, place: int | None = None) -> Tensor | None:
    if chosen is None:
        return None
    numbers = cast("Sequence[Any]", chosen)
    return torch.tensor(numbers if place is None else numbers[place])
