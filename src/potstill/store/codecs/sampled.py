"""Random classes instead of the best ones: few bytes, and right on average."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from potstill.signals import SparseLogits
from potstill.store.codec import Codec, Encoded, Option
from potstill.store.codecs import grid, succinct
from potstill.store.codecs.checks import check_at_least, check_logits, check_number
from potstill.store.codecs.classes import distributions
from potstill.store.codecs.draws import choose, uniforms
from potstill.store.codecs.layout import Bytes, Whole, damaged, padded, ragged, sizes_of


@final
@dataclass(frozen=True, slots=True)
class Sampled(Codec):
    """Classes drawn with replacement from p^τ; each counts as often as drawn, times p / p^τ.

    With τ = 1 the expected target over keys is p itself, so the expected gradient of a forward KL
    is that of the dense one; a single row is far from it. Other τ trade this for another variance:
    the weights are normalised, which makes them right only for many draws.

    Args:
        draws: how many, with replacement.
        tau: the exponent of the proposal; 1 draws from the teacher itself.
        temperature: the softmax that p is.
        seed: rows get other draws with another one.

    Bytes a row: draws / 8 for the counts, (2 + log₂(C / k)) / 8 for each of the k distinct classes,
    and two more for each where τ is not 1.
    Paper: Anshumann et al. 2025, arXiv:2503.16870 (Sparse Logit Sampling).
    """

    name: ClassVar[str] = "sampled"
    signal: ClassVar[str] = "logits"
    sparse: ClassVar[bool] = True
    draws: int = 50
    tau: float = 1.0
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(self.name, "draws", self.draws, 1)
        check_at_least(self.name, "seed", self.seed, 0)
        check_number(self.name, "temperature", self.temperature)
        check_number(self.name, "tau", self.tau, 2)

    def options(self) -> dict[str, Option]:
        """`draws`, `tau`, `temperature`, `seed`."""
        return {
            "draws": self.draws,
            "tau": self.tau,
            "temperature": self.temperature,
            "seed": self.seed,
        }

    def encode(self, values: Tensor, *, keys_N: Tensor) -> Encoded:
        """See `Codec.encode`; the draws of a row depend on its key and the seed alone."""
        check_logits(values, self.name)
        num_classes = values.shape[1]
        drawn_ND, relative_ND = self._draw(values, keys_N)
        first_ND = np.diff(drawn_ND, axis=1, prepend=-1) > 0
        counts_N = first_ND.sum(axis=1)
        ids_M = drawn_ND[first_ND]
        ids_at = self._head() + self._weight_bytes() * counts_N
        sizes_N = ids_at + succinct.sizes(ids_M, counts_N, num_classes)
        offsets = np.concatenate([[0], np.cumsum(sizes_N)]).astype(np.int64)
        begins_N = offsets[:-1]
        data = np.zeros(offsets[-1], dtype=np.uint8)
        succinct.write(data, begins_N + ids_at, ids_M, counts_N, num_classes)
        bitmap = np.packbits(first_ND, axis=1, bitorder="little")
        data[begins_N[:, None] + np.arange(self._head())] = bitmap
        if self._weight_bytes():
            row_M, place_M = ragged(counts_N)
            at_M = begins_N[row_M] + self._head() + 2 * place_M
            weights = relative_ND[first_ND].astype("<f2").view(np.uint8).reshape(-1, 2)
            data[at_M[:, None] + [0, 1]] = weights
        return Encoded(data, offsets)

    def decode(self, rows: Encoded, *, row_shape: tuple[int, ...]) -> SparseLogits:
        """Drawn classes by rising id, no tail; weights make 1."""
        (num_classes,) = row_shape
        first_ND = self._read_bitmap(rows)
        counts_N = first_ND.sum(axis=1)
        begins_N, ends_N = rows.offsets[:-1], rows.offsets[1:]
        ids_at_N = begins_N + self._head() + self._weight_bytes() * counts_N
        if (counts_N > num_classes).any() or (ids_at_N >= ends_N).any():
            raise damaged(self.name, "its counts do not fit its classes")
        ids_M = succinct.read(rows.data, ids_at_N, ends_N, counts_N, num_classes, self.name)
        row_M, place_M = ragged(counts_N)
        weight_M = self._times_drawn(first_ND).astype(np.float32)
        log_M = np.log(weight_M)
        if self._weight_bytes():
            at_M = begins_N[row_M] + self._head() + 2 * place_M
            stored = rows.data[at_M[:, None] + [0, 1]].view("<f2")[:, 0].astype(np.float32)
            if not np.isfinite(stored).all():
                raise damaged(self.name, "one of its weights is no number")
            log_M = log_M + (1 - self.tau) * stored
        log_NK = padded(log_M.astype(np.float32), row_M, place_M, len(rows), -np.inf)
        kept = grid.to_signal(
            padded(ids_M, row_M, place_M, len(rows), 0),
            log_NK - log_NK.max(axis=1, keepdims=True),
            np.zeros(len(rows)),
            num_classes=num_classes,
            temperature=self.temperature,
            codec=self.name,
        )
        return replace(kept, sampled=True)

    def bytes_per_row(self, row_shape: tuple[int, ...]) -> float:
        """The largest possible, with no class drawn twice; a fifth of that is common."""
        (num_classes,) = row_shape
        most = min(self.draws, num_classes)
        ids = (self._weight_bytes() * k + succinct.most_bytes(k, num_classes) for k in _upto(most))
        return float(self._head() + max(ids))

    def error_bound(self) -> str:
        """Of the mean over keys, and of one row."""
        if self.tau == 1:
            return (
                "The mean over keys is the teacher's probability p exactly; one row is off by "
                f"sqrt(p (1 - p) / {self.draws}), at most {0.5 / self.draws**0.5:.2g}, in the "
                "root mean square."
            )
        return (
            "Weights are right for many draws only (an error of the order of "
            f"1 / {self.draws}); one row is off by about 1 / sqrt({self.draws}) in the root mean "
            "square."
        )

    def _head(self) -> int:
        return (self.draws + 7) // 8

    def _weight_bytes(self) -> int:
        return 0 if self.tau == 1 else 2

    def _draw(
        self, values: Tensor, keys_N: Tensor
    ) -> tuple[Whole, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
        """`[N, D]` and `[N, D]`: classes, sorted; τ ≠ 1: their log-ratios to the largest."""
        uniforms_ND = torch.from_numpy(uniforms(keys_N.cpu().numpy(), self.draws, self.seed))
        drawn_ND = torch.empty(len(values), self.draws, dtype=torch.int64)
        for rows, mass_nC in distributions(values, self.temperature / self.tau, log=False):
            drawn_ND[rows] = choose(mass_nC, uniforms_ND[rows].to(mass_nC.device)).cpu()
        drawn_ND = drawn_ND.sort(dim=1).values
        if self.tau == 1:
            return drawn_ND.numpy(), np.zeros((0, 0), dtype=np.float32)
        logits = values.detach().gather(1, drawn_ND.to(values.device)).float()
        most = values.detach().amax(1, keepdim=True).float()
        relative = ((logits - most) / self.temperature).cpu().clamp(min=-60000.0)
        return drawn_ND.numpy(), relative.numpy()

    def _read_bitmap(self, rows: Encoded) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """`[N, D]`, which of the sorted draws is the first of its class."""
        sizes_N = sizes_of(rows, self.name)
        if (sizes_N <= self._head()).any():
            raise damaged(self.name, f"it has {int(sizes_N.min())} bytes")
        packed: Bytes = rows.data[rows.offsets[:-1, None] + np.arange(self._head())]
        bits = np.unpackbits(packed, axis=1, bitorder="little").astype(bool)
        if not bits[:, 0].all() or bits[:, self.draws :].any():
            raise damaged(self.name, "its counts are none")
        return bits[:, : self.draws]

    def _times_drawn(self, first_ND: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Whole:
        """`[M]`, how often each class was drawn."""
        begins_M = np.flatnonzero(first_ND)  # every row begins with one
        return np.diff(begins_M, append=first_ND.size)


def _upto(most: int) -> range:
    return range(1, most + 1)
