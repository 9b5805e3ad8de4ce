"""The block of conformers (Gulati et al. 2020, arXiv:2005.08100), for whole and for padded sounds.

Half a feed-forward layer, attention, a convolution over time, half a feed-forward layer, each
before its own layer normalisation. Within the convolution stands a layer normalisation in place of
the paper's batch normalisation, so that what pads a sound changes nothing.
Shapes: B sounds, T frames, D features.
"""

import math
from typing import final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.initial import check_fraction, check_positive


def positions(states_BTD: Tensor) -> Tensor:
    """`[T, D]` sines and cosines (Vaswani et al. 2017, arXiv:1706.03762, section 3.5)."""
    length, width = states_BTD.shape[1], states_BTD.shape[2]
    places_T1 = torch.arange(length, device=states_BTD.device, dtype=torch.float32)[:, None]
    steps = torch.arange(0, width, 2, device=states_BTD.device, dtype=torch.float32)
    angles = places_T1 * torch.exp(steps * (-math.log(10_000.0) / width))
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]


@final
class ConformerBlock(nn.Module):
    """One block.

    Args:
        width: D.
        heads: of the attention; they divide D.
        kernel: frames that the convolution sees.
        dropout: rate.
        inner: of the feed-forward layers, in multiples of D.
    """

    def __init__(
        self, width: int, *, heads: int, kernel: int, dropout: float = 0.0, inner: int = 4
    ) -> None:
        super().__init__()
        check_positive("width", width)
        check_positive("heads", heads)
        check_fraction("dropout", dropout)
        if width % (2 * heads):
            raise ModelError(
                f"`width: {width}` of a conformer must be a multiple of twice `heads: {heads}`."
            )
        self.first = _feed_forward(width, inner, dropout)
        self.attention = _Attention(width, heads, dropout)
        self.convolution = _Convolution(width, kernel, dropout)
        self.second = _feed_forward(width, inner, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, states_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        """`[B, T, D]` to the same; `mask_BT` is true where there is sound, `None` everywhere."""
        states_BTD = states_BTD + 0.5 * self.first(states_BTD)
        states_BTD = states_BTD + self.attention(states_BTD, mask_BT)
        states_BTD = states_BTD + self.convolution(states_BTD, mask_BT)
        states_BTD = states_BTD + 0.5 * self.second(states_BTD)
        normed: Tensor = self.norm(states_BTD)
        return normed


def _feed_forward(width: int, inner: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, inner * width),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(inner * width, width),
        nn.Dropout(dropout),
    )


@final
class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        normed = self.norm(states_BTD)
        batch, _, width = normed.shape

        def apart(x_BTD: Tensor) -> Tensor:
            return x_BTD.view(batch, -1, self.heads, width // self.heads).transpose(1, 2)

        mixed = nn.functional.scaled_dot_product_attention(
            apart(self.query(normed)),
            apart(self.key(normed)),
            apart(self.value(normed)),
            attn_mask=None if mask_BT is None else mask_BT[:, None, None],
        )
        out: Tensor = self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, -1, width)))
        return out


@final
class _Convolution(nn.Module):
    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ModelError(f"`kernel` is {kernel}; give an odd number of at least 1, such as 15.")
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.inside = nn.LayerNorm(width)
        self.leave = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        gated = nn.functional.glu(self.enter(self.norm(states_BTD)), dim=-1)
        if mask_BT is not None:
            gated = gated * mask_BT[:, :, None]
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.dropout(self.leave(nn.functional.silu(self.inside(mixed))))
        return out
