"""VGG networks for small images, with batch normalisation and a single linear layer at the end.

Paper: Simonyan and Zisserman 2014, arXiv:1409.1556, table 1; `vgg8` keeps one convolution a stage.
"""

from torch import nn

from potstill.models.initial import check_image, kaiming, stack

_WIDTHS = (64, 128, 256, 512, 512)
_LARGE = 64  # pixels a side from which on the last stage works on half the size too


def vgg(input_shape: tuple[int, ...], num_outputs: int, *, convs: tuple[int, ...]) -> nn.Sequential:
    """Five stages of 3x3 convolutions: `layer1`, …, `layer5`, `pool`, `fc`.

    Stages 2 to 4 begin with a max-pool that halves the size; so does stage 5 for images of 64
    pixels or more.

    Shapes: `[B, C, H, W]` to `[B, num_outputs]`; `layerN` gives the stage's features after ReLU,
    64, 128, 256, 512 and 512 channels.

    Args:
        input_shape: `(channels, height, width)`.
        num_outputs: classes, or regression values.
        convs: convolutions in each of the five stages.

    Raises:
        ModelError: if the input is not an image, or too small.
    """
    channels = check_image(input_shape, smallest=8, model="VGG")
    large = min(input_shape[1:]) >= _LARGE
    parts: dict[str, nn.Module] = {}
    for number, (width, count) in enumerate(zip(_WIDTHS, convs, strict=True), start=1):
        halve = number in (2, 3, 4) or (number == 5 and large)
        stage: list[nn.Module] = [nn.MaxPool2d(2)] if halve else []
        for _ in range(count):
            conv = nn.Conv2d(channels, width, 3, padding=1)
            stage += [conv, nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        parts[f"layer{number}"] = nn.Sequential(*stage)
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["fc"] = nn.Linear(channels, num_outputs)
    return kaiming(stack(parts))
