"""Wide residual networks: few layers, many channels, normalisation before each convolution.

Paper: Zagoruyko and Komodakis 2016, arXiv:1605.07146.
"""

import torch
from torch import Tensor, nn

from potstill.models.initial import check_fraction, check_image, kaiming, stack


class _PreActivation(nn.Module):
    """Two 3x3 convolutions, each after normalisation and ReLU; the sum is left as it is.

    Where shapes differ, the 1x1 shortcut starts from the normalised and activated input.
    """

    def __init__(self, channels: int, out: int, *, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        same = stride == 1 and channels == out
        self.project = None if same else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        active = torch.relu(self.norm1(x_BCHW))
        shortcut = x_BCHW if self.project is None else self.project(active)
        out: Tensor = torch.relu(self.norm2(self.conv1(active)))
        return torch.as_tensor(shortcut + self.conv2(self.dropout(out)))


def wide_resnet(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    depth: int,
    width: int,
    dropout: float = 0.0,
) -> nn.Sequential:
    """WRN-depth-width: `stem`, `layer1`, `layer2`, `layer3`, `norm`, `pool`, `fc`.

    Shapes: `[B, C, H, W]` to `[B, num_outputs]`; `layerN` gives
    `[B, 16 * width * 2^(N-1), H / 2^(N-1), W / 2^(N-1)]`, before normalisation and ReLU.

    Args:
        input_shape: `(channels, height, width)`.
        num_outputs: classes, or regression values.
        depth: 6n + 4, for n blocks in each of three stages.
        width: factor on the channels 16, 32, 64.
        dropout: rate between the convolutions of a block (paper, §2.4).

    Raises:
        ModelError: if the input is not an image, or too small, or the rate is out of range.
    """
    image = check_image(input_shape, smallest=4, model="A wide ResNet")
    check_fraction("dropout", dropout)
    parts: dict[str, nn.Module] = {"stem": nn.Conv2d(image, 16, 3, padding=1, bias=False)}
    channels = 16
    for number in (1, 2, 3):
        out = 16 * width * 2 ** (number - 1)
        stage = []
        for index in range((depth - 4) // 6):
            stride = 2 if number > 1 and index == 0 else 1
            stage.append(_PreActivation(channels, out, stride=stride, dropout=dropout))
            channels = out
        parts[f"layer{number}"] = nn.Sequential(*stage)
    parts["norm"] = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["fc"] = nn.Linear(channels, num_outputs)
    return kaiming(stack(parts))
