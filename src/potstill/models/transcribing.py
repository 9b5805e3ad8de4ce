"""Models that say a letter, or nothing, at every frame of a sound: `ctc_conv`, `ctc_conformer`.

They read planes, the wave and where sound stands; what pads a sound changes none of its frames.
Shapes: B sounds, L samples, M mel bands, S frames of the front end, T frames that are answered,
D features, V letters.
"""

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.conformer import ConformerBlock, positions
from potstill.models.initial import check_fraction, check_positive
from potstill.models.log_mel import LogMel


class FrameRule(NamedTuple):
    """How many frames a sound has: a frame for each `step` samples that a `window` fits behind."""

    window: int
    step: int

    def frames(self, samples: Tensor) -> Tensor:
        """T of sounds of so many samples, 1 at least, int64."""
        return (samples.long() - self.window).clamp(min=0) // self.step + 1


@final
class Transcriber(nn.Module):
    """A log-mel front end, two convolutions (the second may skip frames), blocks, a linear layer.

    Every band of a frame is normalised by the mean and spread of its frame, so loudness is gone.

    Args:
        front: the log-mel front end.
        blocks: each takes `[B, T, D]` and a mask `[B, T]`.
        width: D.
        num_outputs: V.
        subsampling: of how many frames of the front end one is answered.
    """

    def __init__(
        self,
        front: LogMel,
        blocks: nn.ModuleList,
        *,
        width: int,
        num_outputs: int,
        subsampling: int,
    ) -> None:
        super().__init__()
        self.front, self.subsampling = front, subsampling
        self.norm = nn.LayerNorm(front.mels)
        self.enter = nn.Conv1d(front.mels, width, 5, padding=2)
        self.skip = nn.Conv1d(width, width, 5, stride=subsampling, padding=2)
        self.blocks = blocks
        self.fc = nn.Linear(width, num_outputs)

    @property
    def rule(self) -> FrameRule:
        """How many frames are answered."""
        return FrameRule(self.front.window, self.front.hop * self.subsampling)

    def forward(self, planes_B2L: Tensor) -> Tensor:
        """`[B, T, V]`, T of the longest sound; frames behind a sound's last one mean nothing."""
        return self.answer(planes_B2L[:, 0], planes_B2L[:, 1].sum(-1))

    def answer(self, wave_BL: Tensor, samples_B: Tensor) -> Tensor:
        """`[B, T, V]` of waves and how many samples each has."""
        fine = FrameRule(self.front.window, self.front.hop)
        short = self.front.window - wave_BL.shape[1]
        if short > 0:  # one frame at least
            wave_BL = nn.functional.pad(wave_BL, (0, short))
        states_BSD = self.norm(self.front(wave_BL).transpose(1, 2))
        mask_BS = _mask(fine.frames(samples_B), states_BSD)
        states_BDS = (states_BSD * mask_BS[:, :, None]).transpose(1, 2)
        states_BDS = torch.relu(self.enter(states_BDS)) * mask_BS[:, None]
        states_BTD = torch.relu(self.skip(states_BDS)).transpose(1, 2)
        mask_BT = _mask(self.rule.frames(samples_B), states_BTD)
        states_BTD = states_BTD + positions(states_BTD)
        for block in self.blocks:
            states_BTD = block(states_BTD, mask_BT)
        logits_BTV: Tensor = self.fc(states_BTD)
        return logits_BTV


def _mask(frames_B: Tensor, states_BTD: Tensor) -> Tensor:
    places_T = torch.arange(states_BTD.shape[1], device=states_BTD.device)
    return places_T < frames_B[:, None]


@final
class _ConvBlock(nn.Module):
    """A residual depthwise convolution over time and a pointwise one (QuartzNet's parts).

    Kriman et al. 2019, arXiv:1910.10261, with layer instead of batch normalisation.
    """

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        normed = self.norm(states_BTD) * mask_BT[:, :, None]
        mixed_BTD = self.depthwise(normed.transpose(1, 2)).transpose(1, 2)
        out: Tensor = states_BTD + self.mix(mixed_BTD)
        return out


def _built(
    input_shape: tuple[int, ...],
    num_outputs: int,
    blocks: list[nn.Module],
    *,
    model: str,
    sampling_rate: int,
    mels: int,
    width: int,
    subsampling: int,
) -> nn.Module:
    if len(input_shape) != 2 or input_shape[0] != 2:
        raise ModelError(
            f"`{model}` reads sounds of unequal length (2 planes, samples), and the input shape is "
            f"{input_shape}: use data source `audio` with `task: asr`."
        )
    check_positive("subsampling", subsampling)
    front = LogMel(sampling_rate, mels=mels)
    return Transcriber(
        front,
        nn.ModuleList(blocks),
        width=width,
        num_outputs=num_outputs,
        subsampling=subsampling,
    )


def ctc_conv(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    sampling_rate: int,
    mels: int = 40,
    width: int = 64,
    depth: int = 3,
    kernel: int = 11,
    subsampling: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """Convolutions over time alone: small, and each frame sees a second or so around it."""
    check_positive("width", width)
    check_positive("depth", depth)
    check_fraction("dropout", dropout)
    if width % 2 or kernel < 1 or kernel % 2 == 0:
        raise ModelError(
            f"`ctc_conv` needs an even `width` and an odd `kernel`, got {width}, {kernel}."
        )
    blocks: list[nn.Module] = [_ConvBlock(width, kernel, dropout) for _ in range(depth)]
    return _built(
        input_shape,
        num_outputs,
        blocks,
        model="ctc_conv",
        sampling_rate=sampling_rate,
        mels=mels,
        width=width,
        subsampling=subsampling,
    )


def ctc_conformer(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    sampling_rate: int,
    mels: int = 40,
    width: int = 96,
    depth: int = 4,
    heads: int = 4,
    kernel: int = 15,
    subsampling: int = 2,
    dropout: float = 0.1,
) -> nn.Module:
    """Conformer blocks (Gulati et al. 2020, arXiv:2005.08100): each frame sees the whole sound."""
    check_positive("depth", depth)
    blocks: list[nn.Module] = [
        ConformerBlock(width, heads=heads, kernel=kernel, dropout=dropout, inner=2)
        for _ in range(depth)
    ]
    return _built(
        input_shape,
        num_outputs,
        blocks,
        model="ctc_conformer",
        sampling_rate=sampling_rate,
        mels=mels,
        width=width,
        subsampling=subsampling,
    )
