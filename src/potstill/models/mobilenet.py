"""MobileNetV2 for small images, at half width if not told otherwise: inverted residuals.

Paper: Sandler et al. 2018, arXiv:1801.04381, table 2. As in the published tables of knowledge
distillation, the second stage keeps the size, the last convolution keeps its 1280 channels, every
block expands (also by 1), and the activation is ReLU.
"""

from torch import Tensor, nn

from potstill.models.initial import check_factor, check_image, kaiming, stack

# expansion, channels at width 1, blocks, stride of the first block
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM = 32
_LAST = 1280


class _InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project by 1x1 without activation."""

    def __init__(self, channels: int, out: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.body = nn.Sequential(
            *_conv(channels, wide),
            *_conv(wide, wide, kernel=3, stride=stride, groups=wide),
            *_conv(wide, out)[:2],
        )
        self.is_residual = stride == 1 and channels == out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.body(x_BCHW)
        return x_BCHW + out if self.is_residual else out


def _conv(
    channels: int, out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU()]


def mobilenet_v2(
    input_shape: tuple[int, ...], num_outputs: int, *, width: float = 0.5
) -> nn.Sequential:
    """`stem`, `layer1`, …, `layer7` (the rows of the paper's table 2), `last`, `pool`, `fc`.

    Shapes: `[B, C, H, W]` to `[B, num_outputs]`; the size is halved in `stem`, `layer3`, `layer4`
    and `layer6`.

    Args:
        input_shape: `(channels, height, width)`.
        num_outputs: classes, or regression values.
        width: factor on the channels; the last convolution keeps its 1280 from a half on, and has
            fewer below (`2560 * width`).

    Raises:
        ModelError: if the input is not an image, or too small, or the width not above 0.
    """
    image = check_image(input_shape, smallest=16, model="MobileNetV2")
    check_factor("width", width)
    channels = max(4, int(_STEM * width))
    parts: dict[str, nn.Module] = {
        "stem": nn.Sequential(*_conv(image, channels, kernel=3, stride=2))
    }
    for number, (expansion, base, count, stride) in enumerate(_STAGES, start=1):
        stage = []
        for index in range(count):
            step = stride if index == 0 else 1
            out = max(4, int(base * width))
            stage.append(_InvertedResidual(channels, out, stride=step, expansion=expansion))
            channels = out
        parts[f"layer{number}"] = nn.Sequential(*stage)
    last = min(_LAST, int(2 * _LAST * width))
    parts["last"] = nn.Sequential(*_conv(channels, last))
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["fc"] = nn.Linear(last, num_outputs)
    return kaiming(stack(parts))
