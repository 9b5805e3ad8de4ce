"""Places on grids of several strides, and which of them answers for which box (FCOS).

Paper: Tian et al. 2019, arXiv:1904.01355, with the sampling of centres of the later version.
B pictures, A places, M boxes.
"""

from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

RADIUS = 1.5
"""Strides from a box's centre within which places answer for it."""
REACH = 4.0
"""A level answers for boxes whose furthest side lies up to so many strides away."""


@final
@dataclass(frozen=True, eq=False)
class Grid:
    """The centres of all cells, finest level first.

    Args:
        centres_A2: x and y in pixels.
        strides_A: pixels a cell.
        levels: height, width and stride of each level.
    """

    centres_A2: Tensor
    strides_A: Tensor
    levels: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, size: tuple[int, int], strides: tuple[int, ...]) -> Self:
        """The grid of convolutions that halve, rounding up."""
        centres, steps, levels = [], [], []
        for stride in strides:
            height, width = (-(-side // stride) for side in size)
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            centres.append((torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride)
            steps.append(torch.full((height * width,), float(stride)))
            levels.append((height, width, stride))
        return cls(torch.cat(centres), torch.cat(steps), tuple(levels))

    def __str__(self) -> str:
        return " ".join(f"{height}x{width}/{stride}" for height, width, stride in self.levels)


def assign(centres_A2: Tensor, strides_A: Tensor, boxes_BM4: Tensor, learnt_BM: Tensor) -> Tensor:
    """`[B, A]` int64: the box that each place answers for, -1 for none.

    A place answers for a box if it lies within it, near its centre, and its level suits the box's
    size; of several, for the smallest. The finest level answers for all smaller boxes too, the
    coarsest for all larger ones.

    Args:
        centres_A2: places.
        strides_A: of their levels.
        boxes_BM4: corners.
        learnt_BM: bool, which of them are there.
    """
    sides_BAM4 = sides(centres_A2[:, None], boxes_BM4[:, None])
    middle_BM2 = (boxes_BM4[..., :2] + boxes_BM4[..., 2:]) / 2
    off_BAM = (centres_A2[:, None] - middle_BM2[:, None]).abs().amax(-1)
    furthest_BAM, stride_A1 = sides_BAM4.amax(-1), strides_A[:, None]
    low_A1 = torch.where(stride_A1 == strides_A.min(), 0, stride_A1 * REACH / 2)
    high_A1 = torch.where(stride_A1 == strides_A.max(), torch.inf, stride_A1 * REACH)
    fits_BAM = (sides_BAM4.amin(-1) > 0) & (off_BAM < RADIUS * stride_A1) & learnt_BM[:, None]
    fits_BAM &= (furthest_BAM > low_A1) & (furthest_BAM <= high_A1)
    areas_BM = (boxes_BM4[..., 2:] - boxes_BM4[..., :2]).prod(-1)
    smallest = torch.where(fits_BAM, areas_BM[:, None], torch.inf).min(dim=-1)
    return torch.where(smallest.values.isfinite(), smallest.indices, -1)


def sides(centres: Tensor, corners: Tensor) -> Tensor:
    """`[..., 4]`: how far the left, upper, right and lower side lie from a point."""
    return torch.cat([centres - corners[..., :2], corners[..., 2:] - centres], dim=-1)


def corners_of(centres: Tensor, distances: Tensor) -> Tensor:
    """`[..., 4]` corners; the inverse of `sides`."""
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)
