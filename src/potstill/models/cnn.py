"""A small convolutional network for images and one-dimensional signals of any size."""

from torch import nn

from potstill.errors import ModelError
from potstill.models.initial import check_fraction, check_positive, kaiming, stack

_CONV = {2: nn.Conv1d, 3: nn.Conv2d}
_NORM = {2: nn.BatchNorm1d, 3: nn.BatchNorm2d}
_MAX_POOL = {2: nn.MaxPool1d, 3: nn.MaxPool2d}
_MEAN_POOL = {2: nn.AdaptiveAvgPool1d, 3: nn.AdaptiveAvgPool2d}
_KERNEL = {2: 7, 3: 3}
_SMALLEST_TO_HALVE = 4  # a stage works on at least 2 pixels a side


def cnn(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    width: int = 32,
    depth: int = 3,
    convs: int = 1,
    kernel: int | None = None,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Stages of convolution, batch normalisation and ReLU: `layer1`, …, `pool`, `fc`.

    Each stage after the first halves the size (as long as 2 pixels a side remain) and doubles the
    channels. The last stage is averaged over space, so that any size goes in.

    Shapes: `[B, C, H, W]` or `[B, C, L]` to `[B, num_outputs]`; `layerN` gives
    `[B, width * 2 ** (N-1), …]`.

    Args:
        input_shape: `(channels, height, width)` or `(channels, length)`.
        num_outputs: classes, or regression values.
        width: channels of the first stage.
        depth: number of stages.
        convs: convolutions in each stage.
        kernel: side of the kernels, an odd number; by default 3 for images and 7 for signals.
        dropout: rate before the last layer.

    Raises:
        ModelError: for an input that is neither image nor signal, or an option out of range.
    """
    dims = len(input_shape)
    if dims not in _CONV:
        raise ModelError(
            f"`cnn` takes images (channels, height, width) or signals (channels, length), and the "
            f"input shape is {input_shape}: use `mlp` for tables."
        )
    for name, count in {"width": width, "depth": depth, "convs": convs}.items():
        check_positive(name, count)
    check_fraction("dropout", dropout)
    side = _odd(_KERNEL[dims] if kernel is None else kernel)
    channels, smallest = input_shape[0], min(input_shape[1:])
    parts: dict[str, nn.Module] = {}
    for number in range(1, depth + 1):
        halve = number > 1 and smallest >= _SMALLEST_TO_HALVE
        smallest = smallest // 2 if halve else smallest
        stage: list[nn.Module] = [_MAX_POOL[dims](2)] if halve else []
        for _ in range(convs):
            out = width * 2 ** (number - 1)
            stage += _unit(dims, channels, out, kernel=side)
            channels = out
        parts[f"layer{number}"] = nn.Sequential(*stage)
    parts["pool"] = nn.Sequential(_MEAN_POOL[dims](1), nn.Flatten())
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["fc"] = nn.Linear(channels, num_outputs)
    return kaiming(stack(parts))


def _unit(dims: int, channels: int, out: int, *, kernel: int) -> list[nn.Module]:
    conv = _CONV[dims](channels, out, kernel, padding=kernel // 2, bias=False)
    return [conv, _NORM[dims](out), nn.ReLU()]


def _odd(kernel: int) -> int:
    if kernel < 1 or kernel % 2 == 0:
        raise ModelError(f"`kernel` is {kernel}; give an odd number of at least 1, such as 3.")
    return kernel
