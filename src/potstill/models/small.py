"""The sizes of a small encoder of another one's type."""

from copy import deepcopy
from typing import TYPE_CHECKING, cast

from torch import nn

from potstill.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def small_settings(model: nn.Module, *, layers: int, width: int, heads: int) -> "PretrainedConfig":
    """The config of an encoder of Transformers, with other sizes; the model keeps its own.

    Raises:
        ModelError: sizes below one, or a width that heads do not divide.
    """
    if min(layers, width, heads) < 1 or width % heads:
        raise ModelError(
            f"`width: {width}` must be a multiple of `heads: {heads}`, and all sizes at least 1 "
            f"(`layers: {layers}`)."
        )
    settings = deepcopy(cast("PretrainedConfig", model.config))
    changes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "hidden_dim": 4 * width,  # DistilBERT's word for it
    }
    for name, value in changes.items():
        if hasattr(settings, name):
            setattr(settings, name, value)
    return settings
