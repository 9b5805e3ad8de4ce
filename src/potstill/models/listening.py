"""Models that hear a window of sound and say what word it was: `ds_cnn`, `tc_resnet`, `conformer`.

Each is a `Listener`: a log-mel front end and a body that sees its frames. Keeping the two apart is
what lets a device keep frames between chunks (`export.streaming`).
Shapes: B sounds, L samples, M mel bands, T frames, D features.
"""

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.conformer import ConformerBlock, positions
from potstill.models.initial import check_fraction, check_positive, kaiming, stack
from potstill.models.log_mel import LogMel


@final
class Listener(nn.Module):
    """A wave to logits: `front`, then a batch normalisation of every band, then `body`.

    Args:
        front: the log-mel front end.
        body: from `[B, 1, M, T]` to `[B, num_outputs]`, for any T it was made for.
    """

    def __init__(self, front: LogMel, body: nn.Module) -> None:
        super().__init__()
        self.front = front
        self.norm = nn.BatchNorm1d(front.mels)
        self.body = body

    def forward(self, wave_BCL: Tensor) -> Tensor:
        """`[B, 1, L]` waves within -1 … 1 to `[B, num_outputs]`."""
        return self.judge(self.front(wave_BCL[:, 0]))

    def judge(self, frames_BMT: Tensor) -> Tensor:
        """The logits of frames that the front end made."""
        logits: Tensor = self.body(self.norm(frames_BMT)[:, None])
        return logits


def _front(input_shape: tuple[int, ...], *, model: str, sampling_rate: int, mels: int) -> LogMel:
    if len(input_shape) != 2 or input_shape[0] != 1:
        raise ModelError(
            f"`{model}` hears windows of sound (1, samples), and the input shape is {input_shape}: "
            "use data source `audio` with `seconds:`."
        )
    front = LogMel(sampling_rate, mels=mels)
    if input_shape[1] < front.window + 7 * front.hop:
        raise ModelError(
            f"`{model}` needs 8 frames or more, {front.window + 7 * front.hop} samples, and the "
            f"window has {input_shape[1]}: give more `seconds`."
        )
    return front


def ds_cnn(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    sampling_rate: int,
    mels: int = 40,
    width: int = 64,
    depth: int = 4,
    dropout: float = 0.0,
) -> nn.Module:
    """A depthwise separable network (Zhang et al. 2017, arXiv:1711.07128, DS-CNN).

    One convolution of 10 bands by 4 frames that halves both, then `depth` pairs of a depthwise 3 x
    3 and a pointwise convolution, mean over time and bands, a linear layer.
    """
    front = _front(input_shape, model="ds_cnn", sampling_rate=sampling_rate, mels=mels)
    check_positive("width", width)
    check_positive("depth", depth)
    check_fraction("dropout", dropout)
    parts: dict[str, nn.Module] = {
        "stem": nn.Sequential(
            nn.Conv2d(1, width, (10, 4), stride=2, padding=(4, 1), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
    }
    for number in range(1, depth + 1):
        parts[f"layer{number}"] = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["dropout"] = nn.Dropout(dropout)
    parts["fc"] = nn.Linear(width, num_outputs)
    return Listener(front, kaiming(stack(parts)))


@final
class _Residual(nn.Module):
    def __init__(self, channels: int, out: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv1d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(out),
            nn.ReLU(),
            nn.Conv1d(out, out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(out),
        )
        self.short = nn.Sequential(
            nn.Conv1d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm1d(out)
        )

    def forward(self, x_BDT: Tensor) -> Tensor:
        return torch.relu(self.inner(x_BDT) + self.short(x_BDT))


@final
class _Bands(nn.Module):
    """Mel bands as channels: `[B, 1, M, T]` to `[B, M, T]`."""

    def forward(self, frames_B1MT: Tensor) -> Tensor:
        return frames_B1MT[:, 0]


def tc_resnet(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    sampling_rate: int,
    mels: int = 40,
    widths: tuple[int, ...] = (16, 24, 32, 48),
    kernel: int = 9,
    dropout: float = 0.0,
) -> nn.Module:
    """A residual network over time whose channels are the mel bands (Choi et al. 2019).

    arXiv:1904.03814, TC-ResNet8 with these widths: a convolution of 3 frames, then a residual block
    for each further width that halves time, mean over time, a linear layer.
    """
    front = _front(input_shape, model="tc_resnet", sampling_rate=sampling_rate, mels=mels)
    for number, width in enumerate(widths):
        check_positive(f"widths[{number}]", width)
    if not widths or kernel < 1 or kernel % 2 == 0:
        raise ModelError(
            f"`tc_resnet` needs one width or more and an odd `kernel`, got {list(widths)} and "
            f"{kernel}."
        )
    check_fraction("dropout", dropout)
    parts: dict[str, nn.Module] = {
        "bands": _Bands(),
        "stem": nn.Conv1d(mels, widths[0], 3, padding=1, bias=False),
    }
    pairs = pairwise(widths)
    for number, (channels, out) in enumerate(pairs, start=1):
        parts[f"layer{number}"] = _Residual(channels, out, kernel=kernel, stride=2)
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
    parts["dropout"] = nn.Dropout(dropout)
    parts["fc"] = nn.Linear(widths[-1], num_outputs)
    return Listener(front, kaiming(stack(parts)))


@final
class _ConformerBody(nn.Module):
    def __init__(
        self, mels: int, num_outputs: int, *, width: int, depth: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(mels, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList(
            ConformerBlock(width, heads=heads, kernel=15, dropout=dropout) for _ in range(depth)
        )
        self.fc = nn.Linear(width, num_outputs)

    def forward(self, frames_B1MT: Tensor) -> Tensor:
        states_BTD = self.stem(frames_B1MT[:, 0]).transpose(1, 2)
        states_BTD = states_BTD + positions(states_BTD)
        for block in self.blocks:
            states_BTD = block(states_BTD, None)
        logits: Tensor = self.fc(states_BTD.mean(1))
        return logits


def conformer(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    sampling_rate: int,
    mels: int = 40,
    width: int = 96,
    depth: int = 4,
    heads: int = 4,
    dropout: float = 0.1,
) -> nn.Module:
    """A small conformer (Gulati et al. 2020, arXiv:2005.08100).

    Blocks see a quarter of the frames; the mean over time goes into a linear layer.
    """
    front = _front(input_shape, model="conformer", sampling_rate=sampling_rate, mels=mels)
    check_positive("depth", depth)
    body = _ConformerBody(mels, num_outputs, width=width, depth=depth, heads=heads, dropout=dropout)
    return Listener(front, body)
