"""What a model's numbers take in a file, before there is one."""

from enum import StrEnum

from torch import Tensor, nn

_FLOAT32 = 4
_OF_A_CHANNEL = 9  # scale, zero point and 32-bit bias of an output channel in 8 bits
_QUANTISED = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.Linear


class Precision(StrEnum):
    """In what numbers a file keeps weights."""

    FLOAT32 = "float32"
    INT8 = "int8"


def bytes_of(model: nn.Module, precision: Precision = Precision.FLOAT32) -> int:
    """Bytes of all weights and of the statistics that ship with them.

    In 8 bits, convolutions, linear layers and tables take a byte a weight, and each output channel
    (of tables: the whole) its scale; all else stays in float32. Shared weights count once.
    """
    if precision is Precision.FLOAT32:
        return _FLOAT32 * _numbers(model)
    small: dict[int, int] = {}
    channels = 0
    for layer in model.modules():
        if isinstance(layer, _QUANTISED):
            small[id(layer.weight)] = layer.weight.numel()
            channels += len(layer.weight)
        elif isinstance(layer, nn.Embedding):
            small[id(layer.weight)] = layer.weight.numel()
            channels += 1
    whole = _numbers(model) - sum(small.values())
    return sum(small.values()) + _OF_A_CHANNEL * channels + _FLOAT32 * whole


def _numbers(model: nn.Module) -> int:
    state = model.state_dict(keep_vars=True).values()
    kept = {id(v): v.numel() for v in state if isinstance(v, Tensor) and v.is_floating_point()}
    return sum(kept.values())
