"""Boxes in augmented images: cut at the edge, and gone where too little of them is left."""

import torch
from torch import Tensor

LEAST_SHARE = 0.25
"""Of a moved box's area, as much must lie in the image."""
LEAST_SIDE = 1.0
"""Pixels."""


def moved_labels(labels_BM6: Tensor, corners_BM4: Tensor, size: tuple[int, int]) -> Tensor:
    """`[B, M, 6]`: the labels with their new corners; class -1 for boxes that are gone.

    Args:
        labels_BM6: before the move.
        corners_BM4: after it, perhaps outside of the image.
        size: height and width of the image.
    """
    x1, y1, x2, y2 = corners_BM4.unbind(-1)
    height, width = size
    cut = torch.stack(
        [x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], dim=-1
    )
    sides = cut[..., 2:] - cut[..., :2]
    area = (x2 - x1) * (y2 - y1)
    stays = (sides.prod(-1) >= LEAST_SHARE * area) & (sides.amin(-1) >= LEAST_SIDE)
    classes = torch.where(stays, labels_BM6[..., 0], -1)
    return torch.cat([classes[..., None], cut, labels_BM6[..., 5:]], dim=-1)
