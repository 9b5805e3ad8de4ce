"""Attention-based fusion of a student's layers from deep to shallow (ReviewKD).

Shapes: B samples, D features of a layer of the student, M in the middle, E of the teacher's layer.
"""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn

Maps = Sequence[Tensor]


@final
class _Fuse(nn.Module):
    """One layer with what came from the deeper ones."""

    def __init__(self, num_in: int, middle: int, num_out: int, *, deepest: bool) -> None:
        super().__init__()
        self.narrow = nn.Sequential(
            nn.Conv2d(num_in, middle, 1, bias=False), nn.BatchNorm2d(middle)
        )
        self.out = nn.Sequential(
            nn.Conv2d(middle, num_out, 3, padding=1, bias=False), nn.BatchNorm2d(num_out)
        )
        self.attention = None if deepest else nn.Conv2d(2 * middle, 2, 1)
        for layers in (self.narrow, self.out):
            weight = layers[0].weight
            assert isinstance(weight, Tensor), "a convolution has one"
            nn.init.kaiming_uniform_(weight, a=1)

    def forward(self, own: Tensor, deeper: Tensor | None, size: Size) -> tuple[Tensor, Tensor]:
        """What is compared with the teacher, `[B, E, *size]`, and what goes on, `[B, M, *size]`."""
        mixed: Tensor = self.narrow(own)
        if self.attention is not None and deeper is not None:
            deeper = _resized(deeper, mixed.shape[2:])
            share = torch.sigmoid(self.attention(torch.cat([mixed, deeper], dim=1)))
            mixed = mixed * share[:, :1] + deeper * share[:, 1:]
        mixed = _resized(mixed, size)
        return self.out(mixed), mixed


@final
class Fusion(nn.Module):
    """All layers of a student, each fused with the deeper ones and brought to the teacher's shape.

    Args:
        student: maps `[B, D, H, W]` from shallow to deep.
        teacher: maps, as many.
        width: M at most; the deepest layer's D if that is less.
    """

    def __init__(self, student: Maps, teacher: Maps, *, width: int) -> None:
        super().__init__()
        middle = min(width, int(student[-1].shape[1]))
        self.layers = nn.ModuleList(
            _Fuse(int(s.shape[1]), middle, int(t.shape[1]), deepest=number == len(student))
            for number, (s, t) in enumerate(zip(student, teacher, strict=True), start=1)
        )
        pairs = [
            f"{list(s.shape[1:])} → {list(t.shape[1:])}"
            for s, t in zip(student, teacher, strict=True)
        ]
        self._described = f"fused from deep to shallow: {', '.join(pairs)}"

    def forward(self, student: Maps, sizes: Sequence[Size]) -> list[Tensor]:
        """One map for each of the teacher's, in the order of the layers."""
        results: list[Tensor] = []
        deeper: Tensor | None = None
        for layer, own, size in zip(
            reversed(list(self.layers)), reversed(student), reversed(sizes), strict=True
        ):
            result, deeper = layer(own, deeper, size)
            results.append(result)
        return results[::-1]

    def describe(self) -> str:
        """One line."""
        learnt = sum(p.numel() for p in self.parameters())
        return f"{self._described}; {learnt:,} parameters"


def _resized(map_BDHW: Tensor, size: Size) -> Tensor:
    if map_BDHW.shape[2:] == size:
        return map_BDHW
    return F.interpolate(map_BDHW, size=list(size), mode="nearest")
