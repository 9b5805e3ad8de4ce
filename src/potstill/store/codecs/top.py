"""The k most probable classes and what is left: the target of a coarse-grained divergence."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from potstill.errors import StoreError
from potstill.signals import SparseLogits
from potstill.store.codec import Codec, Encoded, Option
from potstill.store.codecs import grid
from potstill.store.codecs.checks import check_at_least, check_logits, check_number
from potstill.store.codecs.classes import best_classes
from potstill.store.codecs.layout import Bytes, Whole, as_bytes, damaged, fixed, read_fixed


@final
@dataclass(frozen=True, slots=True)
class TopK(Codec):
    """Classes by falling probability; ids in the fewest bytes that hold C.

    Args:
        k: classes kept, all if there are fewer.
        temperature: the softmax that the log-probabilities are of.
        logprobs: "fp16" or "8bit" (see `grid`).

    Bytes a row: 2 + k (1 to 4 for the id, 2 or 1 for the log-probability).
    """

    name: ClassVar[str] = "topk"
    signal: ClassVar[str] = "logits"
    sparse: ClassVar[bool] = True
    k: int = 50
    temperature: float = 1.0
    logprobs: Literal["fp16", "8bit"] = "fp16"

    def __post_init__(self) -> None:
        check_at_least(self.name, "k", self.k, 1)
        check_number(self.name, "temperature", self.temperature)
        if self.logprobs not in {"fp16", "8bit"}:
            raise StoreError(
                f"The codec `topk` has no log-probabilities in {self.logprobs!r}; "
                "choose fp16 or 8bit."
            )

    def options(self) -> dict[str, Option]:
        """`k`, `temperature`, `logprobs`."""
        return {"k": self.k, "temperature": self.temperature, "logprobs": self.logprobs}

    def encode(self, values: Tensor, *, keys_N: Tensor) -> Encoded:
        """See `Codec.encode`."""
        check_logits(values, self.name)
        best = best_classes(values, self.k, self.temperature)
        ids = best.ids_NK.astype("<i8", copy=False)[..., None].view(np.uint8)
        ids = as_bytes(ids[..., : _id_bytes(values.shape[1])])
        relative_NK = best.logprobs_NK - best.logprobs_NK[:, :1]
        logprobs = self._write_logprobs(relative_NK)
        return fixed(np.concatenate([grid.write_tail(best.tail_N), logprobs, ids], axis=1))

    def decode(self, rows: Encoded, *, row_shape: tuple[int, ...]) -> SparseLogits:
        """Kept classes, best first; log-probabilities and tail make 1."""
        (num_classes,) = row_shape
        k = min(self.k, num_classes)
        ids_at = 2 + k * self._logprob_bytes()
        data = read_fixed(rows, int(self.bytes_per_row(row_shape)), self.name)
        ids_NK = _read_ids(data[:, ids_at:], k)
        relative_NK = self._read_logprobs(data[:, 2:ids_at])
        tail_N = grid.read_tail(data[:, :2], self.name)
        self._check_ids(ids_NK, num_classes)
        return grid.to_signal(
            ids_NK,
            relative_NK,
            tail_N,
            num_classes=num_classes,
            temperature=self.temperature,
            codec=self.name,
        )

    def bytes_per_row(self, row_shape: tuple[int, ...]) -> float:
        """Exact."""
        (num_classes,) = row_shape
        k = min(self.k, num_classes)
        return float(2 + k * (self._logprob_bytes() + _id_bytes(num_classes)))

    def error_bound(self) -> str:
        """Of a log-probability and of the tail."""
        if self.logprobs == "8bit":
            return f"Of the kept classes {grid.GRID_BOUND}; {grid.TAIL_BOUND}."
        return (
            "A kept class's log-ratio to the largest of its row: at most 2⁻¹¹ (0.05 %) of itself, "
            f"so 0.005 nat at a ten-thousandth (-65,504 at least); {grid.TAIL_BOUND}."
        )

    def _logprob_bytes(self) -> int:
        return 1 if self.logprobs == "8bit" else 2

    def _write_logprobs(self, relative_NK: NDArray[np.float32]) -> Bytes:
        if self.logprobs == "8bit":
            return grid.codes(relative_NK)
        # float16 ends at -65,504; only -inf itself is a class ruled out.
        held = np.where(np.isneginf(relative_NK), -np.inf, np.maximum(relative_NK, -65504))
        return as_bytes(held.astype("<f2"))

    def _read_logprobs(self, data: Bytes) -> NDArray[np.float32]:
        if self.logprobs == "8bit":
            return grid.GRID[data]
        return data.copy().view("<f2").astype(np.float32)

    def _check_ids(self, ids_NK: Whole, num_classes: int) -> None:
        ordered = np.sort(ids_NK, axis=1)
        if (ordered >= num_classes).any() or (ordered[:, 1:] == ordered[:, :-1]).any():
            raise damaged(self.name, "a class is out of range or there twice")


def _id_bytes(num_classes: int) -> int:
    return max(1, ((num_classes - 1).bit_length() + 7) // 8)


def _read_ids(data: Bytes, k: int) -> Whole:
    width = data.shape[1] // k
    room = np.zeros((len(data), k, 8), dtype=np.uint8)
    room[..., :width] = data.reshape(len(data), k, width)
    return room.view("<i8")[..., 0].astype(np.int64)
