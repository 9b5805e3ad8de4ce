"""For vocabularies: as many classes as a row needs, ids in a succinct code, one byte each."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from torch import Tensor

from potstill.errors import StoreError
from potstill.signals import SparseLogits
from potstill.store.codec import Codec, Encoded, Option
from potstill.store.codecs import grid, succinct
from potstill.store.codecs.checks import check_at_least, check_logits, check_number
from potstill.store.codecs.classes import Best, best_classes
from potstill.store.codecs.layout import Whole, damaged, padded, ragged, sizes_of

_HEAD = 3  # a byte for k - 1, two for the tail


@final
@dataclass(frozen=True, slots=True)
class Vocabulary(Codec):
    """The fewest classes that hold `top_p` of the mass, sorted by id.

    Args:
        top_p: the mass to keep.
        min_k: kept at least (all, if there are fewer; classes ruled out are never kept).
        max_k: kept at most, up to 256.
        temperature: the softmax that the log-probabilities are of.

    Bytes a row: 3 + k (1 + (2 + log₂(C / k)) / 8).
    """

    name: ClassVar[str] = "vocabulary"
    signal: ClassVar[str] = "logits"
    sparse: ClassVar[bool] = True
    top_p: float = 0.98
    min_k: int = 16
    max_k: int = 50
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(self.name, "min_k", self.min_k, 1)
        check_at_least(self.name, "max_k", self.max_k, self.min_k)
        check_number(self.name, "temperature", self.temperature)
        if self.max_k > 256:
            raise StoreError(
                f"The codec `vocabulary` keeps at most 256 classes and got max_k={self.max_k}; "
                "`topk` keeps more."
            )
        check_number(self.name, "top_p", self.top_p, 1)

    def options(self) -> dict[str, Option]:
        """`top_p`, `min_k`, `max_k`, `temperature`."""
        return {
            "top_p": self.top_p,
            "min_k": self.min_k,
            "max_k": self.max_k,
            "temperature": self.temperature,
        }

    def encode(self, values: Tensor, *, keys_N: Tensor) -> Encoded:
        """See `Codec.encode`."""
        check_logits(values, self.name)
        num_classes = values.shape[1]
        best = best_classes(values, self.max_k, self.temperature)
        counts_N, tail_N = self._cut(best)
        row_M, place_M = ragged(counts_N)
        ids_M, codes_M = _sorted_by_id(best, row_M, place_M, num_classes)
        sizes_N = _HEAD + counts_N + succinct.sizes(ids_M, counts_N, num_classes)
        offsets = np.concatenate([[0], np.cumsum(sizes_N)]).astype(np.int64)
        begins_N = offsets[:-1]
        data = np.zeros(offsets[-1], dtype=np.uint8)
        succinct.write(data, begins_N + _HEAD + counts_N, ids_M, counts_N, num_classes)
        data[begins_N] = counts_N - 1
        data[begins_N[:, None] + [1, 2]] = grid.write_tail(tail_N)
        data[begins_N[row_M] + _HEAD + place_M] = codes_M
        return Encoded(data, offsets)

    def decode(self, rows: Encoded, *, row_shape: tuple[int, ...]) -> SparseLogits:
        """Kept classes by rising id; log-probabilities and tail make 1."""
        (num_classes,) = row_shape
        sizes_N = sizes_of(rows, self.name)
        if (sizes_N <= _HEAD).any():
            raise damaged(self.name, f"it has {int(sizes_N.min())} bytes")
        begins_N, ends_N = rows.offsets[:-1], rows.offsets[1:]
        counts_N = rows.data[begins_N].astype(np.int64) + 1
        if (counts_N > min(self.max_k, num_classes)).any():
            raise damaged(self.name, f"it keeps {int(counts_N.max())} classes")
        ids_at_N = begins_N + _HEAD + counts_N
        ids_M = succinct.read(rows.data, ids_at_N, ends_N, counts_N, num_classes, self.name)
        row_M, place_M = ragged(counts_N)
        relative_M = grid.GRID[rows.data[begins_N[row_M] + _HEAD + place_M]]
        return grid.to_signal(
            padded(ids_M, row_M, place_M, len(rows), 0),
            padded(relative_M, row_M, place_M, len(rows), -np.inf),
            grid.read_tail(rows.data[begins_N[:, None] + [1, 2]], self.name),
            num_classes=num_classes,
            temperature=self.temperature,
            codec=self.name,
        )

    def bytes_per_row(self, row_shape: tuple[int, ...]) -> float:
        """The largest possible; rows where the teacher is sure are much smaller."""
        (num_classes,) = row_shape
        most = min(self.max_k, num_classes)
        return float(
            max(_HEAD + k + succinct.most_bytes(k, num_classes) for k in range(1, most + 1))
        )

    def error_bound(self) -> str:
        """Of a probability and of the tail."""
        return f"Of the kept classes {grid.GRID_BOUND}; {grid.TAIL_BOUND}."

    def _cut(self, best: Best) -> tuple[Whole, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """`[N]` and `[N]`: how many classes each row keeps, and the mass of the others."""
        p_NK = np.exp(best.logprobs_NK.astype(np.float64))
        held_NK = p_NK.cumsum(axis=1)
        counts_N = 1 + (held_NK < self.top_p).sum(axis=1)
        possible_N = np.isfinite(best.logprobs_NK).sum(axis=1)
        counts_N = np.minimum(np.clip(counts_N, self.min_k, self.max_k), possible_N)
        dropped_NK = np.where(np.arange(p_NK.shape[1]) >= counts_N[:, None], p_NK, 0)
        return counts_N, np.minimum(best.tail_N + dropped_NK.sum(axis=1), 1)


def _sorted_by_id(
    best: Best, row_M: Whole, place_M: Whole, num_classes: int
) -> tuple[Whole, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    """`[M]` and `[M]`: kept ids, rising within each row, and the codes of their probabilities."""
    ids_M = best.ids_NK[row_M, place_M]
    codes_M = grid.codes((best.logprobs_NK - best.logprobs_NK[:, :1])[row_M, place_M])
    order = np.argsort(row_M * num_classes + ids_M, kind="stable")
    return ids_M[order], codes_M[order]
