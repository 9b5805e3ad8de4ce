"""One shard: the data of some records, signal after signal, then an index with checksums.

The data are cut into blocks of 16 KiB with a CRC-32 each, checked when a block is first touched
(CRC-32 finds every change within 32 bits); the index is covered by a digest in the manifest.
Nothing in the file lies outside the two. All numbers are little-endian.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from potstill.errors import StoreError
from potstill.store.codec import Encoded
from potstill.store.manifest import ShardEntry
from potstill.store.place import Place
from potstill.store.rows import Whole, pick, spread

BLOCK = 1 << 14
"""Bytes under one checksum."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One signal of some records: R rows for each.

    Args:
        rows: of all records, one after the other.
        counts_N: int64, how many of them belong to each record.
    """

    rows: Encoded
    counts_N: Whole


@final
@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """N records before they are a file.

    Args:
        ids_N: int64, which sample.
        views_N: int64, which view of it.
        contents_N: int64, digests of the samples themselves.
        columns: by name of the signal.
    """

    ids_N: Whole
    views_N: Whole
    contents_N: Whole
    columns: Mapping[str, Column]


def write_shard(place: Place, name: str, records: Records) -> ShardEntry:
    """Write a shard whole, and say what the manifest must know of it."""
    columns = records.columns.values()
    data = np.concatenate([column.rows.data for column in columns]) if columns else _NOTHING
    index = _pack_index(records, data)
    place.write(name, [data.data, index])
    return ShardEntry(
        name=name,
        records=len(records.ids_N),
        data_bytes=len(data),
        bytes=len(data) + len(index),
        index_digest=_digest(index),
    )


_NOTHING: NDArray[np.uint8] = np.empty(0, np.uint8)


def _pack_index(records: Records, data: NDArray[np.uint8]) -> bytes:
    arrays: dict[str, NDArray[np.generic]] = {
        "ids": records.ids_N.astype("<i8"),
        "views": records.views_N.astype("<i4"),
        "contents": records.contents_N.astype("<i8"),
        "checksums": np.array([_crc(data, b) for b in range(_num_blocks(len(data)))], "<u4"),
    }
    fixed: dict[str, int] = {}
    for name, column in records.columns.items():
        if (column.counts_N != 1).any():
            arrays[f"counts/{name}"] = column.counts_N.astype("<i4")
        lengths = np.diff(column.rows.offsets)
        if len(lengths) and (lengths == lengths[0]).all():
            fixed[name] = int(lengths[0])
        else:
            arrays[f"lengths/{name}"] = lengths.astype("<u4")
    listed = [[name, str(array.dtype), len(array)] for name, array in arrays.items()]
    head = json.dumps({"arrays": listed, "fixed": fixed, "signals": list(records.columns)}).encode()
    return b"".join(
        [len(head).to_bytes(4, "little"), head, *(a.tobytes() for a in arrays.values())]
    )


def _num_blocks(size: int) -> int:
    return -(-size // BLOCK)


def _crc(data: NDArray[np.uint8], block: int) -> int:
    return zlib.crc32(data[block * BLOCK : (block + 1) * BLOCK].data)


def _digest(index: bytes | memoryview) -> str:
    return hashlib.blake2b(index, digest_size=16).hexdigest()


@final
class Shard:
    """A shard that is read.

    Args:
        place: where the store lies.
        entry: what the manifest says of it.

    Raises:
        StoreError: the file is missing, of another size, or its index is damaged.
    """

    def __init__(self, place: Place, entry: ShardEntry) -> None:
        self._file, self._entry = f"{place.name}/{entry.name}", entry
        found = place.map(entry.name)
        if found is None or len(found) != entry.bytes:
            size = "is missing" if found is None else f"has {len(found):,} bytes"
            raise StoreError(
                f"{self._file} {size} and should have {entry.bytes:,}. {self._way_out()}"
            )
        self._data = found[: entry.data_bytes]
        index = found[entry.data_bytes :]
        if _digest(index.data) != entry.index_digest:
            raise StoreError(f"The index of {self._file} is damaged. {self._way_out()}")
        self._arrays, self._fixed, self._signals = _unpack_index(index.tobytes())
        self._trusted = np.zeros(_num_blocks(len(self._data)), bool)
        self._all_trusted = not len(self._trusted)
        self._starts = self._row_starts()

    def __len__(self) -> int:
        return self._entry.records

    @property
    def ids(self) -> Whole:
        """`[N]` int64, which sample each record is of."""
        return self._arrays["ids"].astype(np.int64)

    @property
    def views(self) -> Whole:
        """`[N]` int64, which view of it."""
        return self._arrays["views"].astype(np.int64)

    @property
    def contents(self) -> Whole:
        """`[N]` int64, digests of the samples."""
        return self._arrays["contents"].astype(np.int64)

    def counts(self, signal: str) -> Whole | None:
        """`[N]` int64, how many rows of a signal each record has; `None` where all have one."""
        found = self._arrays.get(f"counts/{signal}")
        return None if found is None else found.astype(np.int64)

    def gather(self, signal: str, rows: Whole) -> Encoded:
        """Rows of a signal by number, their bytes checked.

        Raises:
            StoreError: a block that they lie in is damaged.
        """
        starts = self._starts[signal]
        first, lengths = starts[rows], starts[rows + 1] - starts[rows]
        self._check(first, lengths)
        return pick(self._data, first, lengths)

    def damaged_blocks(self) -> list[int]:
        """Check everything; the numbers of the blocks that do not fit their checksum."""
        found = [b for b in range(len(self._trusted)) if not self._is_sound(b)]
        self._all_trusted = not found
        return found

    def _check(self, starts: Whole, lengths: Whole) -> None:
        if self._all_trusted:
            return
        filled = lengths > 0
        low, high = starts[filled] // BLOCK, (starts + lengths - 1)[filled] // BLOCK
        touched = np.unique(spread(low, high - low + 1))
        for block in touched[~self._trusted[touched]].tolist():
            if not self._is_sound(block):
                raise StoreError(
                    f"{self._file} is damaged at bytes {block * BLOCK:,} to "
                    f"{min((block + 1) * BLOCK, len(self._data)):,}. {self._way_out()}"
                )
            self._trusted[block] = True
        self._all_trusted = bool(self._trusted.all())

    def _is_sound(self, block: int) -> bool:
        return _crc(self._data, block) == int(self._arrays["checksums"][block])

    def _way_out(self) -> str:
        return (
            f"Delete {self._entry.name} and run `potstill label` again: it writes what is missing."
        )

    def _row_starts(self) -> dict[str, Whole]:
        """Of each signal, where each row begins in the file, and where the last one ends."""
        starts: dict[str, Whole] = {}
        base = 0
        for signal in self._signals:
            counts = self.counts(signal)
            rows = len(self) if counts is None else int(counts.sum())
            if signal in self._fixed:
                starts[signal] = base + np.arange(rows + 1, dtype=np.int64) * self._fixed[signal]
            else:
                lengths = self._arrays[f"lengths/{signal}"].astype(np.int64)
                starts[signal] = base + np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            base = int(starts[signal][-1])
        return starts


def _unpack_index(
    index: bytes,
) -> tuple[dict[str, NDArray[np.generic]], dict[str, int], Sequence[str]]:
    """The arrays of an index whose digest fits, so that its content is ours."""
    size = int.from_bytes(index[:4], "little")
    head = json.loads(index[4 : 4 + size])
    arrays: dict[str, NDArray[np.generic]] = {}
    at = 4 + size
    for name, kind, length in head["arrays"]:
        arrays[name] = np.frombuffer(index, np.dtype(kind), count=length, offset=at)
        at += arrays[name].nbytes
    return arrays, head["fixed"], head["signals"]
