"""Models of images that look at a smaller picture: it is made smaller in front, inside the model.

So a file takes the data's own pictures, and parts keep their names where the body is a sequence.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from potstill.errors import ModelError
from potstill.models.config import Json, ModelConfig
from potstill.models.initial import stack

RESOLUTION = "resolution"


@final
class Resize(nn.Module):
    """`[B, C, H, W]` to `[B, C, side, side]`, bilinear; at half the size, means of 2 x 2 pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The same pictures, smaller."""
        size = (self.side, self.side)
        return functional.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        """For `repr`."""
        return f"side={self.side}"


def at_resolution(
    config: ModelConfig, side: Json, make: Callable[[ModelConfig], nn.Module]
) -> nn.Module:
    """A model that sees pictures of `side` x `side` pixels, whatever it is given.

    Args:
        config: of the model, with the size of what it is given.
        side: in pixels.
        make: builds the body for the smaller size.

    Raises:
        ModelError: the samples are no images, or no larger than that.
    """
    shape = config.input_shape
    if len(shape) != 3 or not isinstance(side, int) or not 1 <= side <= min(shape[1:]):
        raise ModelError(
            f"`resolution: {side}` makes images smaller before `{config.name}` sees them; give a "
            f"whole number of pixels that is at most the side of the images (these have shape "
            f"{shape})."
        )
    body = make(replace(config, input_shape=(shape[0], side, side)))
    if type(body) is nn.Sequential:
        return stack({"resize": Resize(side), **dict(body.named_children())})
    return stack({"resize": Resize(side), "body": body})
