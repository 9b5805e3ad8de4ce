"""Logits and features as floating-point numbers of two or four bytes, in little-endian order."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from potstill.errors import StoreError
from potstill.store.codec import Codec, Encoded, Option
from potstill.store.codecs.classes import check_rows
from potstill.store.codecs.layout import Bytes, as_bytes, fixed, read_fixed

FloatName = Literal["fp32", "bf16", "fp16"]
_SIZES = {"fp32": 4, "bf16": 2, "fp16": 2}
_BOUNDS = {
    "fp32": "exact for float32 and narrower; float64 is rounded to float32",
    "bf16": "relative error at most 2⁻⁸ (0.4 %), absolute 5e-41 near 0",
    "fp16": "relative error at most 2⁻¹¹ (0.05 %), absolute 3e-8 near 0; up to ±65,504",
}


@final
@dataclass(frozen=True, slots=True)
class DenseLogits(Codec):
    """All logits of a row, `[C]`. -inf (a class ruled out) is kept.

    Args:
        dtype: "fp32" (exact), "bf16" or "fp16".

    Bytes a row: 4 C or 2 C.
    """

    name: ClassVar[str] = "dense"
    signal: ClassVar[str] = "logits"
    dtype: FloatName = "fp32"

    def __post_init__(self) -> None:
        _check_dtype(self.dtype, self.name)

    def options(self) -> dict[str, Option]:
        """`dtype`."""
        return {"dtype": self.dtype}

    def encode(self, values: Tensor, *, keys_N: Tensor) -> Encoded:
        """See `Codec.encode`."""
        check_rows(values, self.name, ruled_out=True)
        return fixed(_write(values, self.dtype, self.name))

    def decode(self, rows: Encoded, *, row_shape: tuple[int, ...]) -> Tensor:
        """`[N, C]`, float32."""
        return _read(rows, row_shape, self.dtype, self.name)

    def bytes_per_row(self, row_shape: tuple[int, ...]) -> float:
        """Exact."""
        return float(_SIZES[self.dtype] * math.prod(row_shape))

    def error_bound(self) -> str:
        """Of each logit."""
        return f"Each logit: {_BOUNDS[self.dtype]}."


@final
@dataclass(frozen=True, slots=True)
class FloatTensor(Codec):
    """Features or embeddings of any shape.

    Args:
        dtype: "fp16", "bf16" or "fp32" (exact).

    Bytes a row: 4 or 2 a value.
    """

    name: ClassVar[str] = "float"
    signal: ClassVar[str] = "tensor"
    dtype: FloatName = "fp16"

    def __post_init__(self) -> None:
        _check_dtype(self.dtype, self.name)

    def options(self) -> dict[str, Option]:
        """`dtype`."""
        return {"dtype": self.dtype}

    def encode(self, values: Tensor, *, keys_N: Tensor) -> Encoded:
        """See `Codec.encode`."""
        check_rows(values, self.name, ruled_out=False)
        return fixed(_write(values, self.dtype, self.name))

    def decode(self, rows: Encoded, *, row_shape: tuple[int, ...]) -> Tensor:
        """`[N, *row shape]`, float32."""
        return _read(rows, row_shape, self.dtype, self.name)

    def bytes_per_row(self, row_shape: tuple[int, ...]) -> float:
        """Exact."""
        return float(_SIZES[self.dtype] * math.prod(row_shape))

    def error_bound(self) -> str:
        """Of each value."""
        return f"Each value: {_BOUNDS[self.dtype]}."


def _check_dtype(dtype: str, codec: str) -> None:
    if dtype not in _SIZES:
        raise StoreError(
            f"The codec `{codec}` has no dtype {dtype!r}; choose one of {', '.join(_SIZES)}."
        )


def _write(values: Tensor, dtype: str, codec: str) -> Bytes:
    """`[N, B]`."""
    flat = values.detach().flatten(1)
    if dtype == "bf16":
        whole = flat.to(torch.bfloat16).contiguous().view(torch.int16).cpu().numpy()
        return as_bytes(whole.astype("<i2", copy=False))
    if dtype == "fp32":
        return as_bytes(flat.float().cpu().numpy().astype("<f4", copy=False))
    halves = flat.half()
    if len(flat) and halves.abs().amax().isinf():
        _check_range(flat, halves, codec)
    return as_bytes(halves.cpu().numpy().astype("<f2", copy=False))


def _check_range(flat: Tensor, halves: Tensor, codec: str) -> None:
    """Only what was infinite before may be so in float16."""
    outside = halves.isinf() & flat.isfinite()
    if outside.any():
        raise StoreError(
            f"The codec `{codec}` in fp16 holds numbers up to 65,504 and got "
            f"{float(flat[outside][0]):g}; choose bf16 or fp32."
        )


def _read(rows: Encoded, row_shape: tuple[int, ...], dtype: str, codec: str) -> Tensor:
    size = _SIZES[dtype]
    data = np.array(read_fixed(rows, size * math.prod(row_shape), codec))  # memory of our own
    if dtype == "bf16":
        values = torch.from_numpy(data.view("<i2").astype(np.int16, copy=False))
        floats = values.view(torch.bfloat16).float()
    else:
        floats = torch.from_numpy(data.view(f"<f{size}").astype(np.float32, copy=False))
    return floats.reshape(len(rows), *row_shape)
