"""How models start: the checks on their arguments, their initial weights, and the seed of those."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from potstill.errors import ModelError


def stack(parts: Mapping[str, nn.Module]) -> nn.Sequential:
    """The parts one after the other, under their names."""
    return nn.Sequential(OrderedDict(parts))


def kaiming(model: nn.Sequential) -> nn.Sequential:
    """Set the convolutions' weights as He et al. 2015 (arXiv:1502.01852, eq. 14) do.

    Normal with variance 2 / fan-out; biases 0. Changes the model and returns it; layers of other
    kinds stay as PyTorch starts them (batch normalisation as the identity).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def check_image(input_shape: tuple[int, ...], *, smallest: int, model: str) -> int:
    """Refuse what is not an image of enough pixels; return its number of channels.

    Args:
        input_shape: `(channels, height, width)`.
        smallest: the least height and width, in pixels, that leave one pixel at the last stage.
        model: what the sentence calls the architecture.

    Raises:
        ModelError: if there are not three dimensions, or too few pixels.
    """
    if len(input_shape) != 3:
        raise ModelError(
            f"{model} takes images (channels, height, width), and the input shape is "
            f"{input_shape}: use `mlp` for tables and `cnn` for signals."
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise ModelError(
            f"{model} needs images of at least {smallest}x{smallest} pixels, and these have "
            f"{height}x{width}: enlarge them, or use `cnn` or `mlp`, which take any size."
        )
    return channels


def check_fraction(name: str, value: float) -> None:
    """Refuse a dropout rate outside [0, 1).

    Raises:
        ModelError: if the value is below 0, or 1 and above.
    """
    if not 0 <= value < 1:
        raise ModelError(f"`{name}` is {value}; give a rate of at least 0 and below 1.")


def check_positive(name: str, value: int) -> None:
    """Refuse a count below one.

    Raises:
        ModelError: if the value is below 1.
    """
    if value < 1:
        raise ModelError(f"`{name}` is {value}; give a whole number of at least 1.")


def check_factor(name: str, value: float) -> None:
    """Refuse a factor that is not above zero.

    Raises:
        ModelError: if the value is 0 or below.
    """
    if not value > 0:
        raise ModelError(f"`{name}` is {value}; give a factor above 0, such as 0.5.")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, random weights come from `seed`; afterwards the CPU generator stands as before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
