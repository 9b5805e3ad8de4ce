"""An encoder with less of everything: the channels, heads and neurons that are named, no others.

Shapes: D channels of the hidden state, H heads of D / H channels each, F neurons of a layer.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from potstill.errors import ModelError, need
from potstill.models.answering import Encoder
from potstill.models.huggingface import AUTO
from potstill.models.importance import Parts, parts_of, stack_of

_FFN = ("intermediate_size", "hidden_dim")
"""What BERT and DistilBERT call the number of neurons."""


@final
@dataclass(frozen=True, kw_only=True)
class Kept:
    """Which ones stay, in ascending order.

    Args:
        channels: of the hidden state.
        heads: of each layer; as many in each.
        neurons: of each layer; as many in each.
    """

    channels: Sequence[int]
    heads: Sequence[Sequence[int]]
    neurons: Sequence[Sequence[int]]


def check_sizes(teacher: Encoder, *, width: int | None, ffn: int | None) -> tuple[int, int, int]:
    """Width, heads and neurons of a narrower encoder, whose heads keep their size.

    Raises:
        ModelError: larger than the teacher, or a width that is not made of whole heads.
    """
    wide, heads = teacher.sized("hidden_size"), teacher.sized("num_attention_heads")
    neurons = next(teacher.sized(name) for name in _FFN if hasattr(teacher.model.config, name))
    size = wide // heads
    width, ffn = width or wide, ffn or neurons
    if not 0 < width <= wide or width % size:
        raise ModelError(
            f"`width: {width}` must be a multiple of {size}, the size of the teacher's heads, and "
            f"at most {wide}."
        )
    if not 0 < ffn <= neurons:
        raise ModelError(f"`ffn: {ffn}` must lie between 1 and the teacher's {neurons}.")
    return width, width // size, ffn


def narrowed(teacher: Encoder, kept: Kept) -> Encoder:
    """The same encoder with what is kept alone: every weight is one of the teacher's."""
    parts = parts_of(teacher)
    config = teacher.model.config
    size = teacher.sized("hidden_size") // teacher.sized("num_attention_heads")
    settings = deepcopy(config)
    changes = {"hidden_size": len(kept.channels), "num_attention_heads": len(kept.heads[0])}
    changes |= dict.fromkeys(_FFN, len(kept.neurons[0]))
    for name, value in changes.items():
        if hasattr(settings, name):
            setattr(settings, name, value)
    auto = getattr(need("transformers", extra="text"), AUTO[type(teacher)])
    small = type(teacher)(auto.from_config(settings, dtype=torch.float32).train())
    axes = _axes(small, parts, kept, size)
    whole = teacher.state_dict()
    chosen = {
        name: _taken(whole[name], target, axes.get(name, {}), kept.channels)
        for name, target in small.state_dict().items()
    }
    small.load_state_dict(chosen)
    return small


def _axes(
    small: Encoder, parts: Parts, kept: Kept, size: int
) -> dict[str, dict[int, Sequence[int]]]:
    """By the name of a tensor, what to take along an axis that is no channel of the state."""
    names = {id(module): name for name, module in small.named_modules()}
    axes: dict[str, dict[int, Sequence[int]]] = {}
    for layer, heads, neurons in zip(stack_of(small), kept.heads, kept.neurons, strict=True):
        rows = [head * size + place for head in heads for place in range(size)]
        told = [(part, 0, rows) for part in parts.attend]
        told += [(parts.merge, 1, rows), (parts.widen, 0, list(neurons))]
        told += [(parts.narrow, 1, list(neurons))]
        for part, axis, indices in told:
            where = names[id(layer.get_submodule(part))]
            axes[f"{where}.weight"] = {axis: indices}
            if axis == 0:
                axes[f"{where}.bias"] = {0: indices}
    return axes


def _taken(
    tensor: Tensor, target: Tensor, axes: Mapping[int, Sequence[int]], channels: Sequence[int]
) -> Tensor:
    for axis, size in enumerate(target.shape):
        if axis in axes or tensor.shape[axis] != size:
            indices = torch.tensor(axes.get(axis, channels))
            tensor = tensor.index_select(axis, indices)
    return tensor
