"""`Store`: a store that is read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, final

import numpy as np
from torch import Tensor

from potstill.errors import StoreError
from potstill.signals import SparseLogits
from potstill.store.codec import Encoded
from potstill.store.manifest import NAME, Manifest, StoredSignal
from potstill.store.place import Place, place
from potstill.store.rows import Whole, join, spread, take
from potstill.store.shard import Shard
from potstill.store.table import Table

_T = TypeVar("_T")


@final
@dataclass(frozen=True, kw_only=True)
class Damage:
    """Something in a store that is not as it was written.

    Args:
        shard: the file.
        sentence: what is wrong with it.
    """

    shard: str
    sentence: str


@final
class Store:
    """Answers of a teacher about known samples, by (sample, view).

    Opening reads the manifest and the indexes of the shards; answers are read when asked for, their
    checksums compared once, at first touch. A store that is being written is read as it was last
    published.

    Args:
        where: a folder, or an address that fsspec opens (`s3://bucket/store`, `memory://store`).

    Raises:
        StoreError: there is no store, or one that is damaged.
    """

    def __init__(self, where: Path | str) -> None:
        self._place = place(where)
        self.manifest = read_manifest(self._place)
        self._shards = [Shard(self._place, entry) for entry in self.manifest.shards]
        self._bases = np.cumsum([0, *map(len, self._shards)]).astype(np.int64)
        self.ids_N = self._all(lambda shard: shard.ids)
        self.views_N = self._all(lambda shard: shard.views)
        self.contents_N = self._all(lambda shard: shard.contents)
        self.table = Table(self.ids_N, self.views_N)
        if self.table.has_repeats:
            raise StoreError(
                f"{self.name} holds a sample and view twice. Delete it and label again."
            )

    @property
    def name(self) -> str:
        """Where it lies."""
        return self._place.name

    def __len__(self) -> int:
        return len(self.ids_N)

    def __repr__(self) -> str:
        signals = ", ".join(f"{s.name} ({s.codec.name})" for s in self.manifest.signals)
        return f"Store({self.name!r}): {len(self):,} records of {signals}"

    def signal(self, name: str) -> StoredSignal:
        """A signal by name.

        Raises:
            StoreError: it is not stored.
        """
        found = self.manifest.signal(name)
        if found is None:
            known = ", ".join(s.name for s in self.manifest.signals)
            raise StoreError(f"{self.name} holds {known}, and no {name!r}. Label it with it.")
        return found

    def counts(self, signal: str) -> Whole | None:
        """`[N]` int64, how many rows of a signal each record has; `None` where all have one."""
        each = [shard.counts(signal) for shard in self._shards]
        if all(counts is None for counts in each):
            return None
        filled = [
            np.ones(len(shard), np.int64) if counts is None else counts
            for shard, counts in zip(self._shards, each, strict=True)
        ]
        return np.concatenate(filled)

    def encoded(self, signal: str, records: Whole) -> Encoded:
        """The rows of some records as their codec wrote them, in the order of `records`.

        Raises:
            StoreError: the signal is not stored, or the bytes are damaged.
        """
        self.signal(signal)
        number = np.searchsorted(self._bases, records, side="right") - 1
        order = np.argsort(number, kind="stable")
        shards, begins = np.unique(number[order], return_index=True)
        parts = []
        sizes = np.empty(len(records), np.int64)
        for shard, places in zip(shards.tolist(), np.split(order, begins[1:]), strict=True):
            rows, sizes[places] = self._rows(shard, signal, records[places] - self._bases[shard])
            parts.append(self._shards[shard].gather(signal, rows))
        together = join(parts)
        if len(parts) <= 1:
            return together
        firsts = np.empty(len(records), np.int64)
        firsts[order] = np.cumsum(sizes[order]) - sizes[order]
        return take(together, spread(firsts, sizes))

    def decode(self, signal: str, records: Whole) -> Tensor | SparseLogits:
        """The rows of some records, decoded, on the CPU: `[sum of their rows, *row shape]`.

        Raises:
            StoreError: the signal is not stored, or the bytes are damaged.
        """
        stored = self.signal(signal)
        if stored.row_shape is None:
            raise StoreError(f"{self.name} is empty. Fill it with `potstill label`.")
        return stored.codec.decode(self.encoded(signal, records), row_shape=stored.row_shape)

    def find(self, ids_B: Tensor, view_B: Tensor) -> Tensor:
        """`[B]` int64, the records of samples and views; -1 where there is none."""
        return self.table(ids_B, view_B)

    def _rows(self, shard: int, signal: str, records: Whole) -> tuple[Whole, Whole | int]:
        counts = self._shards[shard].counts(signal)
        if counts is None:
            return records, np.ones(len(records), np.int64)
        firsts = np.cumsum(counts) - counts
        return spread(firsts[records], counts[records]), counts[records]

    def _all(self, part: Callable[[Shard], Whole]) -> Whole:
        return np.concatenate([*map(part, self._shards), np.empty(0, np.int64)])


def read_manifest(where: Place) -> Manifest:
    """The manifest of a store.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    text = where.read(NAME)
    if text is None:
        raise StoreError(f"There is no store at {where.name}. Write one with `potstill label`.")
    return Manifest.load(text, store=where.name)


def verify(where: Path | str) -> list[Damage]:
    """Read every byte of a store and name what is damaged; nothing is a sound store.

    Raises:
        StoreError: there is no manifest, or it is damaged itself.
    """
    found: list[Damage] = []
    here = place(where)
    for entry in read_manifest(here).shards:
        try:
            blocks = Shard(here, entry).damaged_blocks()
        except StoreError as error:
            found.append(Damage(shard=entry.name, sentence=str(error)))
            continue
        if blocks:
            sentence = f"{len(blocks)} of its blocks do not fit"
            found.append(Damage(shard=entry.name, sentence=sentence))
    return found
