"""A small convolutional generator: noise and a class to an image."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@final
class Generator(nn.Module):
    """`z [B, D]`, classes `[B]` to images `[B, C, H, W]` in [0, 1].

    Twice upsampled from a quarter of the size, with batch norms: the generator of Chen et al. 2019
    (DAFL), arXiv:1904.01186, made conditional by the class's one-hot row beside the noise.

    Args:
        shape: `(C, H, W)`.
        classes: how many.
        noise: D.
        width: channels.
    """

    def __init__(
        self, shape: tuple[int, ...], classes: int, *, noise: int = 64, width: int = 32
    ) -> None:
        super().__init__()
        channels, self._height, self._width = shape
        self._classes, self._channels = classes, width
        self._small = (-(-self._height // 4), -(-self._width // 4))
        cells = self._small[0] * self._small[1]
        self.noise = noise
        self.start = nn.Linear(noise + classes, width * cells)
        self.first = nn.Sequential(nn.BatchNorm2d(width))
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)
        )
        self.third = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.BatchNorm2d(width // 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, channels, 3, padding=1),
        )

    def forward(self, z_BD: Tensor, classes_B: Tensor) -> Tensor:
        """See the class."""
        told = torch.cat([z_BD, F.one_hot(classes_B, self._classes).to(z_BD.dtype)], dim=1)
        x = self.first(self.start(told).view(-1, self._channels, *self._small))
        x = self.second(F.interpolate(x, scale_factor=2))
        x = self.third(F.interpolate(x, scale_factor=2))
        return torch.sigmoid(x[:, :, : self._height, : self._width])
