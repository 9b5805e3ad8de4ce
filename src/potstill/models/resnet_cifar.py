"""Residual networks for small images: the thin ones of He et al. §4.2, and ResNet-18/34/50.

Paper: He et al. 2015, "Deep residual learning for image recognition", arXiv:1512.03385.
Shortcuts that change the shape are 1x1 projections (option B), as in the published tables of
knowledge distillation (Tian et al. 2019, arXiv:1910.10699).
"""

import torch
from torch import Tensor, nn

from potstill.models.initial import check_image, check_positive, kaiming, stack


class _Residual(nn.Module):
    """`relu(body(x) + shortcut(x))`; the shortcut is a projection only where shapes differ."""

    def __init__(self, body: nn.Sequential, channels: int, out: int, *, stride: int) -> None:
        super().__init__()
        self.body = body
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == out
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.relu(self.body(x_BCHW) + self.shortcut(x_BCHW))


def _basic(channels: int, width: int, *, stride: int) -> _Residual:
    """Two 3x3 convolutions (figure 5, left)."""
    body = nn.Sequential(
        nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )
    return _Residual(body, channels, width, stride=stride)


def _bottleneck(channels: int, width: int, *, stride: int) -> _Residual:
    """1x1, 3x3 with the stride, 1x1 to four times the width (figure 5, right)."""
    out = 4 * width
    body = nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, out, 1, bias=False),
        nn.BatchNorm2d(out),
    )
    return _Residual(body, channels, out, stride=stride)


def resnet_cifar(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    stem: int,
    widths: tuple[int, ...],
    blocks: tuple[int, ...],
    bottleneck: bool,
) -> nn.Sequential:
    """Stages of residual blocks: `stem`, `layer1`, `layer2`, …, `pool`, `fc`.

    Shapes: `[B, C, H, W]` to `[B, num_outputs]`; `layerN` gives `[B, D, H / 2^(N-1), W / 2^(N-1)]`
    with D = `widths[N-1]` (four times that with bottlenecks), after the ReLU.
    A thin network of depth 6n+2 has `widths` 16, 32, 64 and n blocks a stage; `resnet8x4` and
    `resnet32x4` have four times those widths and a stem of 32.

    Args:
        input_shape: `(channels, height, width)`.
        num_outputs: classes, or regression values.
        stem: channels of the first convolution.
        widths: of each stage; each after the first halves the size.
        blocks: how many in each stage.
        bottleneck: blocks of three convolutions instead of two.

    Raises:
        ModelError: if the input is not an image, or too small.
    """
    channels = check_image(
        input_shape, smallest=2 ** (len(widths) - 1), model="A ResNet for small images"
    )
    parts: dict[str, nn.Module] = {
        "stem": nn.Sequential(
            nn.Conv2d(channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
    }
    block = _bottleneck if bottleneck else _basic
    channels = stem
    for number, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
        stage = []
        for index in range(count):
            stage.append(block(channels, width, stride=2 if number > 1 and index == 0 else 1))
            channels = 4 * width if bottleneck else width
        parts[f"layer{number}"] = nn.Sequential(*stage)
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["fc"] = nn.Linear(channels, num_outputs)
    return kaiming(stack(parts))


def thin_resnet(
    input_shape: tuple[int, ...], num_outputs: int, *, blocks: int = 1, width: int = 16
) -> nn.Sequential:
    """Three stages of `blocks` basic blocks with `width`, twice and four times so many channels.

    Equivalent to `resnet8`, `resnet14`, `resnet20`, … at width 16 with 1, 2, 3, … blocks.

    Raises:
        ModelError: if the input is not an image, or too small, or a size is below 1.
    """
    check_positive("blocks", blocks)
    check_positive("width", width)
    return resnet_cifar(
        input_shape,
        num_outputs,
        stem=width,
        widths=(width, 2 * width, 4 * width),
        blocks=(blocks,) * 3,
        bottleneck=False,
    )
