"""Features and embeddings in one byte a value, with a scale for each row or block of a row."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from potstill.store.codec import Codec, Encoded, Option
from potstill.store.codecs.checks import check_at_least
from potstill.store.codecs.classes import check_rows
from potstill.store.codecs.layout import as_bytes, damaged, fixed, read_fixed

_STEPS = 127


@final
@dataclass(frozen=True, slots=True)
class Int8Tensor(Codec):
    """Values as 127ths of the largest magnitude of their block.

    Args:
        block: how many neighbouring values of the flattened row share a scale; 0 means all of
            them. For features `[C, H, W]`, H · W gives every channel its own.

    Bytes a row: 1 a value and 4 a block.
    """

    name: ClassVar[str] = "int8"
    signal: ClassVar[str] = "tensor"
    block: int = 0

    def __post_init__(self) -> None:
        check_at_least(self.name, "block", self.block, 0)

    def options(self) -> dict[str, Option]:
        """`block`."""
        return {"block": self.block}

    def encode(self, values: Tensor, *, keys_N: Tensor) -> Encoded:
        """See `Codec.encode`."""
        check_rows(values, self.name, ruled_out=False)
        num_rows, size = len(values), math.prod(values.shape[1:])
        num_blocks, block = self._blocks(size)
        flat = torch.zeros(num_rows, num_blocks * block)
        flat[:, :size] = values.detach().flatten(1).cpu()
        blocks = flat.view(num_rows, num_blocks, block)
        peaks = blocks.abs().amax(-1)
        whole = (blocks / peaks[..., None].where(peaks[..., None] > 0, 1.0) * _STEPS).round_()
        numbers = whole.to(torch.int8).flatten(1)[:, :size].numpy().view(np.uint8)
        scales = peaks.numpy().astype("<f4")
        return fixed(np.concatenate([as_bytes(scales), numbers], axis=1))

    def decode(self, rows: Encoded, *, row_shape: tuple[int, ...]) -> Tensor:
        """`[N, *row shape]`, float32."""
        size = math.prod(row_shape)
        num_blocks, block = self._blocks(size)
        data = read_fixed(rows, 4 * num_blocks + size, self.name)
        peaks = data[:, : 4 * num_blocks].copy().view("<f4").astype(np.float32, copy=False)
        if not (np.isfinite(peaks).all() and (peaks >= 0).all()):
            raise damaged(self.name, "one of its scales is no positive number")
        whole = torch.zeros(len(rows), num_blocks * block)
        whole[:, :size] = torch.from_numpy(data[:, 4 * num_blocks :].copy().view(np.int8))
        steps = (whole / _STEPS).view(len(rows), num_blocks, block)
        values = steps * torch.from_numpy(peaks)[..., None]
        return values.flatten(1)[:, :size].reshape(len(rows), *row_shape)

    def bytes_per_row(self, row_shape: tuple[int, ...]) -> float:
        """Exact."""
        size = math.prod(row_shape)
        return float(size + 4 * self._blocks(size)[0])

    def error_bound(self) -> str:
        """Relative to the block."""
        return (
            "Each value: at most 1/254 (0.4 %) of the largest magnitude in its "
            f"{f'block of {self.block} values' if self.block else 'row'}, and 1e-7 of itself."
        )

    def _blocks(self, size: int) -> tuple[int, int]:
        block = min(self.block, size) or size
        return -(-size // block), block
