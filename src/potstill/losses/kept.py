"""What terms on maps and tokens share: which positions count, and what a sample draws from.

Shapes: B samples, D features, P positions.
"""

import torch
from torch import Tensor

from potstill.functional.draws import Draws
from potstill.losses.layers import positions_of
from potstill.signals import Target


def sum_kept(elements: Tensor, target: Target) -> Tensor:
    """`[B]`, the sum over features and over positions that are no padding.

    Args:
        elements: `[B, D, *positions]`.
        target: knows the padding.
    """
    kept_BP = positions_of(elements, target)
    each_BP = elements.sum(dim=1).flatten(1) if elements.ndim > 2 else elements.sum(1, keepdim=True)
    return (each_BP if kept_BP is None else torch.where(kept_BP, each_BP, 0)).sum(dim=1)


def draws_of(target: Target, rows: int, *, seed: int, device: torch.device) -> Draws:
    """Draws for each sample: of the step and place that the target knows, else of the place."""
    chance_B = target.chance
    if chance_B is None or len(chance_B) != rows:
        chance_B = torch.arange(rows, device=device)
    return Draws.of(seed, chance_B, torch.zeros_like(chance_B))


def kept_elements(feature: Tensor, target: Target) -> Tensor | None:
    """`[B, P]` bool, the positions of samples that count; `None` where all do."""
    kept_BP = positions_of(feature, target)
    mask_B = target.mask(labels=False) if len(feature) == target.num_rows else None
    if mask_B is None:
        return kept_BP
    everywhere = mask_B[:, None].expand(-1, feature.shape[2:].numel())
    return everywhere if kept_BP is None else everywhere & kept_BP
