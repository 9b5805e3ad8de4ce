"""What a codec is: rows of one signal to bytes and back.

N rows (samples, or token positions) · a row is `(C,)` for logits, `(D,)`, `(C, H, W)` for others.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from potstill.signals import SparseLogits

Option = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Encoded:
    """N rows as bytes, one after the other.

    Args:
        data: uint8, `[total]`.
        offsets: int64, `[N + 1]`, where each row begins and the last one ends.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Codec(ABC):
    """Turns rows of a signal into bytes and back. Instances are frozen dataclasses of options.

    A codec is a pure function: the same rows with the same keys give the same bytes, whatever else
    is in the batch. `potstill.testing.CodecContract` has the tests that a codec must pass.
    """

    name: ClassVar[str]
    signal: ClassVar[str]  # "logits" or "tensor" (features, embeddings)
    sparse: ClassVar[bool] = False  # whether `decode` gives `SparseLogits`

    @abstractmethod
    def options(self) -> Mapping[str, Option]:
        """Plain values that make this codec again: `type(self)(**options)`."""

    @abstractmethod
    def encode(self, values: Tensor, *, keys_N: Tensor) -> Encoded:
        """`[N, *row shape]` to bytes.

        Args:
            values: finite, any float dtype, on any device; logits may be -inf (a class ruled out).
            keys_N: int64, the identity of each row, for codecs that draw random numbers.

        Raises:
            StoreError: values that the codec cannot hold (NaN, too few classes).
        """

    @abstractmethod
    def decode(self, rows: Encoded, *, row_shape: tuple[int, ...]) -> Tensor | SparseLogits:
        """Bytes to `[N, *row shape]`, or to kept classes and a tail, on the CPU.

        Raises:
            StoreError: bytes that `encode` did not write.
        """

    @abstractmethod
    def bytes_per_row(self, row_shape: tuple[int, ...]) -> float:
        """How large a row becomes: exact for fixed rows, the largest mean for others."""

    @abstractmethod
    def error_bound(self) -> str:
        """How far decoded values may lie from encoded ones, in one sentence with numbers."""
