"""Vectors of earlier batches, the last K of them, as a part that checkpoints keep.

Shapes: K places, D features, N rows of a batch.
"""

from typing import final

import torch
from torch import Tensor, nn

from potstill.functional.reductions import keep_rows


@final
class Memory(nn.Module):
    """The last K vectors that were put in. It has buffers and nothing to learn.

    Nothing waits for a device: rows that do not count are written to a place that nobody reads.

    Args:
        places: K.
        width: D.
    """

    vectors: Tensor
    next: Tensor
    filled: Tensor

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.places = places
        self.register_buffer("vectors", torch.zeros(places + 1, width))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def read(self) -> tuple[Tensor, Tensor]:
        """A copy of the vectors, `[K, D]`, and which places hold one, `[K]` bool."""
        places_K = torch.arange(self.places, device=self.vectors.device)
        return self.vectors[: self.places].clone(), places_K < self.filled

    @torch.no_grad()
    def put(self, vectors_ND: Tensor, mask_N: Tensor | None) -> None:
        """Remember the rows that count, in place of the oldest ones. Only while training.

        Args:
            vectors_ND: of more rows than places, the last ones are kept.
            mask_N: bool, which rows count; `None` means all.
        """
        if not self.training:
            return
        vectors_ND = vectors_ND[-self.places :].to(self.vectors.dtype)
        if mask_N is None:
            mask_N = torch.ones(len(vectors_ND), dtype=torch.bool, device=vectors_ND.device)
        mask_N = mask_N[-self.places :]
        turn_N = (self.next + mask_N.cumsum(0) - 1) % self.places
        place_N = torch.where(mask_N, turn_N, self.places)
        self.vectors.index_copy_(0, place_N, keep_rows(vectors_ND, mask_N))
        number = mask_N.sum()
        self.next.copy_((self.next + number) % self.places)
        self.filled.copy_((self.filled + number).clamp(max=self.places))
