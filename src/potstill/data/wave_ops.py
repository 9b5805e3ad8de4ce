"""Augmentations of sound, as the other ops batched functions of the inputs and a sample's draws.

B samples · C channels · L times. Waves lie within -1 … 1. They work on any signal.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.data.draws import Draws
from potstill.data.ops import SIGNALS, Op
from potstill.errors import RecipeError


def _require(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise RecipeError(f"Augmentation `{name}` must be {expected}, got {value!r}.")


@final
@dataclass(frozen=True)
class Gain(Op):
    """Make a sound louder or softer by at most `decibels` either way."""

    dims = SIGNALS
    decibels: float = 6.0

    def __post_init__(self) -> None:
        _require(0 <= self.decibels <= 60, "gain.decibels", self.decibels, "0 to 60")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        factor_B = torch.exp(draws.symmetric().double() * (self.decibels * math.log(10) / 20))
        return inputs * factor_B.float().view(-1, 1, 1)


@final
@dataclass(frozen=True)
class Background(Op):
    """Add bell-shaped noise at a signal-to-noise ratio between `lowest` and `highest` decibels.

    The power of the signal is its mean square over all times.
    """

    dims = SIGNALS
    lowest: float = 10.0
    highest: float = 40.0

    def __post_init__(self) -> None:
        given = (self.lowest, self.highest)
        _require(self.lowest <= self.highest, "background.lowest … highest", given, "rising")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        ratio_B = self.lowest + draws.split(1).uniform().double() * (self.highest - self.lowest)
        root_B = inputs.double().square().mean(dim=(1, 2)).sqrt()
        std_B = (root_B * torch.exp(-ratio_B * (math.log(10) / 20))).float()
        return inputs + draws.normal(*inputs.shape[1:]) * std_B.view(-1, 1, 1)


@final
@dataclass(frozen=True)
class TimeMask(Op):
    """Silence `masks` stretches of at most `steps` samples.

    Paper: Park et al. 2019, arXiv:1904.08779 (SpecAugment, section 2), here before the spectrogram,
    so that it needs no place inside the model.
    """

    dims = SIGNALS
    steps: int = 800
    masks: int = 1

    def __post_init__(self) -> None:
        _require(self.steps >= 0, "time_mask.steps", self.steps, "0 or more")
        _require(self.masks >= 0, "time_mask.masks", self.masks, "0 or more")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        length = inputs.shape[2]
        times_L = torch.arange(length, device=inputs.device)
        for number in range(self.masks):
            width, start = draws.split(number).uniform(2).unbind(1)
            width = (width * (self.steps + 1)).floor()
            start = (start * (length - width).clamp(min=1)).floor()
            end = start + width
            inside_BL = (times_L >= start[:, None]) & (times_L < end[:, None])
            inputs = inputs.masked_fill(inside_BL[:, None], 0.0)
        return inputs


@final
@dataclass(frozen=True)
class BandMask(Op):
    """Take `masks` bands of at most `width` of all frequencies out of a sound.

    Paper: Park et al. 2019, arXiv:1904.08779 (SpecAugment, section 2), here by a band-stop filter
    of `taps` samples (a sinc under Hann's window): what it does to a time depends on its
    neighbours alone.
    """

    dims = SIGNALS
    width: float = 0.15
    masks: int = 1
    taps: int = 127

    def __post_init__(self) -> None:
        _require(0 <= self.width < 1, "band_mask.width", self.width, "at least 0 and below 1")
        _require(self.masks >= 0, "band_mask.masks", self.masks, "0 or more")
        _require(
            self.taps % 2 == 1 and self.taps > 1, "band_mask.taps", self.taps, "odd, 3 or more"
        )

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        batch, channels, _ = inputs.shape
        for number in range(self.masks):
            width_B, low_B = draws.split(number).uniform(2).double().unbind(1)
            width_B = width_B * self.width
            low_B = low_B * (1 - width_B)
            kernel_BK = self._kernel(low_B, low_B + width_B).float()
            rows = inputs.transpose(0, 1)  # every sample is a channel with its own filter
            inputs = F.conv1d(
                rows, kernel_BK[:, None], padding=self.taps // 2, groups=batch
            ).transpose(0, 1)
        assert inputs.shape[1] == channels
        return inputs

    def _kernel(self, low_B: Tensor, high_B: Tensor) -> Tensor:
        """`[B, taps]`: one at the middle, less the band between two shares of all frequencies."""
        half = self.taps // 2
        places_K = torch.arange(-half, half + 1, device=low_B.device, dtype=torch.float64)
        window_K = 0.5 + 0.5 * torch.cos(math.pi * places_K / (half + 1))

        def below(edge_B: Tensor) -> Tensor:
            return edge_B[:, None] * torch.sinc(edge_B[:, None] * places_K)

        middle_K = (places_K == 0).double()
        return middle_K - (below(high_B) - below(low_B)) * window_K


WAVE_OPS: dict[str, type[Op]] = {
    "background": Background,
    "band_mask": BandMask,
    "gain": Gain,
    "time_mask": TimeMask,
}
