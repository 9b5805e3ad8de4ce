"""Fully connected networks, for tables and for small images and signals, which they flatten."""

from math import prod
from typing import Literal

from torch import nn

from potstill.models.initial import check_fraction, check_positive, stack

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def mlp(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    hidden: tuple[int, ...] = (128,),
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    activation: Activation = "relu",
    batch_norm: bool = False,
) -> nn.Sequential:
    """Linear layers with an activation between them: `layer1`, `layer2`, …, `fc`.

    Shapes: `[B, *input_shape]` to `[B, num_outputs]`; `layerN` gives `[B, hidden[N-1]]`.
    The networks of Hinton et al. 2015 (arXiv:1503.02531, §3) have `hidden=(1200, 1200)` and
    dropout (teacher), `hidden=(800, 800)` (student). Weights start as PyTorch's linear layers do.

    Args:
        input_shape: of one sample; flattened.
        num_outputs: classes, or regression values.
        hidden: the width of each hidden layer; none makes the model linear.
        dropout: rate after each hidden layer.
        input_dropout: rate on the inputs.
        activation: `relu`, `leaky_relu`, `gelu`, `silu` or `tanh`.
        batch_norm: normalise before each activation.

    Raises:
        ModelError: for a rate or a width out of range.
    """
    check_fraction("dropout", dropout)
    check_fraction("input_dropout", input_dropout)
    parts: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    if input_dropout:
        parts["input_dropout"] = nn.Dropout(input_dropout)
    features = prod(input_shape)
    for number, width in enumerate(hidden, start=1):
        check_positive("hidden", width)
        layer: list[nn.Module] = [nn.Linear(features, width)]
        layer += [nn.BatchNorm1d(width)] if batch_norm else []
        layer += [_ACTIVATIONS[activation]()]
        layer += [nn.Dropout(dropout)] if dropout else []
        parts[f"layer{number}"] = nn.Sequential(*layer)
        features = width
    parts["fc"] = nn.Linear(features, num_outputs)
    return stack(parts)
