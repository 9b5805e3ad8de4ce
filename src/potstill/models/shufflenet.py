"""ShuffleNet V1 (three groups) and V2 (1x) for small images.

Papers: Zhang et al. 2017, arXiv:1707.01083, table 1; Ma et al. 2018, arXiv:1807.11164, table 5. As
in the published tables of knowledge distillation, the stem is a 1x1 convolution that keeps the
size, and V1 has a ReLU after the depthwise convolution too.
"""

import torch
from torch import Tensor, nn

from potstill.models.initial import check_factor, check_image, kaiming, stack

_REPEATS = (4, 8, 4)
_STEM = 24
_GROUPS_V1 = 3
_WIDTHS_V1 = (240, 480, 960)
_WIDTHS_V2 = (116, 232, 464)
_LAST_V2 = 1024


def shuffle_channels(x_BCHW: Tensor, groups: int) -> Tensor:
    """Deal the channels of `groups` groups out in turn, so that the next groups mix all of them.

    Equivalent to reading a `groups x C/groups` table of channels column by column.
    """
    batch, channels, height, width = x_BCHW.shape
    table = x_BCHW.reshape(batch, groups, channels // groups, height, width)
    return table.transpose(1, 2).reshape(batch, channels, height, width)


class _UnitV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1 (figure 2 b and c).

    With stride 2 the input, averaged, is put beside the result instead of being added.
    """

    def __init__(self, channels: int, out: int, *, stride: int) -> None:
        super().__init__()
        own = out - channels if stride == 2 else out
        inner = own // 4
        # The stem has too few channels to be grouped (§3.2).
        self.groups = 1 if channels == _STEM else _GROUPS_V1
        self.reduce = nn.Sequential(*_pointwise(channels, inner, groups=self.groups))
        self.expand = nn.Sequential(
            *_depthwise(inner, stride=stride),
            nn.ReLU(),
            *_pointwise(inner, own, groups=_GROUPS_V1)[:2],
        )
        self.shortcut = nn.AvgPool2d(3, 2, padding=1) if stride == 2 else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        own: Tensor = self.expand(shuffle_channels(self.reduce(x_BCHW), self.groups))
        if self.shortcut is None:
            return torch.relu(own + x_BCHW)
        return torch.relu(torch.cat([own, self.shortcut(x_BCHW)], dim=1))


class _UnitV2(nn.Module):
    """Half of the channels pass by, the others are worked on, then all are shuffled (fig. 3 c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            *_pointwise(half, half), *_depthwise(half), *_pointwise(half, half)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        kept, worked = x_BCHW.chunk(2, dim=1)
        return shuffle_channels(torch.cat([kept, self.body(worked)], dim=1), 2)


class _DownUnitV2(nn.Module):
    """Both branches see all channels and halve the size (figure 3 d)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        half = out // 2
        self.short = nn.Sequential(
            *_depthwise(channels, stride=2),
            *_pointwise(channels, half),
        )
        self.body = nn.Sequential(
            *_pointwise(channels, half), *_depthwise(half, stride=2), *_pointwise(half, half)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return shuffle_channels(torch.cat([self.short(x_BCHW), self.body(x_BCHW)], dim=1), 2)


def _pointwise(channels: int, out: int, *, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, 1, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU()]


def _depthwise(channels: int, *, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


def shufflenet_v1(input_shape: tuple[int, ...], num_outputs: int) -> nn.Sequential:
    """`stem`, `layer1`, `layer2`, `layer3` (240, 480, 960 channels), `pool`, `fc`.

    Shapes: `[B, C, H, W]` to `[B, num_outputs]`; each layer halves the size.

    Raises:
        ModelError: if the input is not an image, or too small.
    """
    image = check_image(input_shape, smallest=8, model="ShuffleNet V1")
    parts: dict[str, nn.Module] = {"stem": nn.Sequential(*_pointwise(image, _STEM))}
    channels = _STEM
    for number, (width, count) in enumerate(zip(_WIDTHS_V1, _REPEATS, strict=True), start=1):
        first = _UnitV1(channels, width, stride=2)
        rest = [_UnitV1(width, width, stride=1) for _ in range(count - 1)]
        parts[f"layer{number}"] = nn.Sequential(first, *rest)
        channels = width
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["fc"] = nn.Linear(channels, num_outputs)
    return kaiming(stack(parts))


def shufflenet_v2(
    input_shape: tuple[int, ...], num_outputs: int, *, width: float = 1.0
) -> nn.Sequential:
    """`stem`, `layer1`, `layer2`, `layer3` (116, 232, 464 channels), `last`, `pool`, `fc`.

    Shapes: `[B, C, H, W]` to `[B, num_outputs]`; each layer halves the size.

    Args:
        input_shape: `(channels, height, width)`.
        num_outputs: classes, or regression values.
        width: factor on the channels of the layers and of the last convolution.

    Raises:
        ModelError: if the input is not an image, or too small, or the width not above 0.
    """
    image = check_image(input_shape, smallest=8, model="ShuffleNet V2")
    check_factor("width", width)
    parts: dict[str, nn.Module] = {"stem": nn.Sequential(*_pointwise(image, _STEM))}
    channels = _STEM
    for number, (base, count) in enumerate(zip(_WIDTHS_V2, _REPEATS, strict=True), start=1):
        wide = 2 * max(2, round(base * width / 2))  # half of them pass by
        rest = [_UnitV2(wide) for _ in range(count - 1)]
        parts[f"layer{number}"] = nn.Sequential(_DownUnitV2(channels, wide), *rest)
        channels = wide
    last = max(16, round(_LAST_V2 * width))
    parts["last"] = nn.Sequential(*_pointwise(channels, last))
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["fc"] = nn.Linear(last, num_outputs)
    return kaiming(stack(parts))
