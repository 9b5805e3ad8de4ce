"""`StoreWriter`: the one process that writes a store."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.errors import StoreError
from potstill.runtime.environment import git_revision, installed
from potstill.signals import LazyLogits
from potstill.store.codec import Codec, Encoded
from potstill.store.contents import row_keys
from potstill.store.key import StoreKey
from potstill.store.manifest import NAME, Manifest, StoredSignal
from potstill.store.place import Place, place
from potstill.store.reader import read_manifest
from potstill.store.rows import Whole, join
from potstill.store.shard import Column, Records, Shard, write_shard
from potstill.store.table import Table

Rows = Tensor | LazyLogits

SHARD_BYTES = 64 << 20
PIECE_BYTES = 64 << 20
"""Of float32 logits that are computed together when they come as what goes into a head."""
SECONDS = 30.0

_SUFFIX = ".shard"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """What a teacher said about some samples, one view of each.

    Args:
        ids_B: int64, the samples.
        view_B: int64, the views.
        contents_B: int64, digests of the samples.
        signals: by name, `[rows, *row shape]`, on any device; logits may be yet to be computed.
        counts: by name, `[B]` int64, how many rows each sample has; one where left out.
    """

    ids_B: Tensor
    view_B: Tensor
    contents_B: Whole
    signals: Mapping[str, Rows]
    counts: Mapping[str, Whole] = field(default_factory=dict)


@final
class _Known:
    """What is published: records by sample and view, and the contents of each sample."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        nothing = np.empty(0, np.int64)
        self._ids_N = np.concatenate([*(shard.ids for shard in shards), nothing])
        self._views_N = np.concatenate([*(shard.views for shard in shards), nothing])
        self._contents_N = np.concatenate([*(shard.contents for shard in shards), nothing])
        self._index()

    def extend(self, records: Records) -> None:
        """More records were published."""
        self._ids_N = np.concatenate([self._ids_N, records.ids_N])
        self._views_N = np.concatenate([self._views_N, records.views_N])
        self._contents_N = np.concatenate([self._contents_N, records.contents_N])
        self._index()

    def has_changed(self, ids_B: Whole, contents_B: Whole) -> NDArray[np.bool_]:
        """`[B]`: which samples are known with other contents."""
        if not len(self._samples_S):
            return np.zeros(len(ids_B), bool)
        at_B = np.searchsorted(self._samples_S, ids_B).clip(max=len(self._samples_S) - 1)
        known_B = self._samples_S[at_B] == ids_B
        found: NDArray[np.bool_] = known_B & (self._contents_S[at_B] != contents_B)
        return found

    def _index(self) -> None:
        self.table = Table(self._ids_N, self._views_N)
        self._samples_S, first_S = np.unique(self._ids_N, return_index=True)
        self._contents_S = self._contents_N[first_S]


@final
class StoreWriter:
    """Appends to a store, or begins one. Closed by `with`.

    Records gather in memory and are published as a shard, whole, when they fill one or have waited
    long enough; a kill loses no more than that. What a killed writer left half done, and shards
    that are missing or cut short, are dropped when the store is opened again, to be written anew.

    Args:
        where: a folder, or an address that fsspec opens.
        key: what the answers depend on.
        codecs: how each signal is written: `logits`, `embedding`, `features/<layer>`.
        shard_bytes: publish when so much has gathered.
        seconds: publish at least this often.

    Raises:
        StorageError: another process is writing it, or the place cannot be written to.
        StoreError: it is of something else, or holds other signals.
    """

    def __init__(
        self,
        where: Path | str,
        *,
        key: StoreKey,
        codecs: Mapping[str, Codec],
        shard_bytes: int = SHARD_BYTES,
        seconds: float = SECONDS,
    ) -> None:
        self._place = place(where)
        self._shard_bytes, self._seconds = shard_bytes, seconds
        self._lock = self._place.lock()
        try:
            self._manifest = _opened(self._place, key, codecs)
            shards = self._sound_shards()
            self._save()
        except BaseException:
            self._lock.close()
            raise
        self._known = _Known(shards)
        self._recent: set[tuple[int, int]] = set()  # added since the last shard
        self._waiting: list[Records] = []
        self._bytes, self._since = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.flush()
        finally:
            self.close()

    @property
    def manifest(self) -> Manifest:
        """As it was last published."""
        return self._manifest

    @property
    def name(self) -> str:
        """Where the store lies."""
        return self._place.name

    def close(self) -> None:
        """Let another process write. What has not been published is given up."""
        self._lock.close()

    def lacks(self, ids_B: Tensor, view_B: Tensor) -> Tensor:
        """`[B]` bool: which samples and views are not published yet."""
        return self._known.table(ids_B.cpu(), view_B.cpu()) < 0

    def refuse_changed(self, ids_B: Tensor, contents_B: Whole) -> None:
        """Raise `StoreError` if a sample that is stored already has other contents now."""
        ids = ids_B.cpu().numpy()
        changed = self._known.has_changed(ids, contents_B)
        if changed.any():
            raise StoreError(
                f"Sample {ids[changed][0]} is not the one that {self.name} was labelled with: its "
                "contents differ. Label the changed data into another folder."
            )

    def add(self, answered: Answered) -> None:
        """Keep what is not there yet.

        Raises:
            StoreError: a sample has changed since it was labelled, or a signal cannot be encoded.
        """
        records = self._encoded(answered, self._fresh(answered))
        if not len(records.ids_N):
            return
        self._waiting.append(records)
        self._bytes += sum(len(column.rows.data) for column in records.columns.values())
        if self._bytes >= self._shard_bytes or time.monotonic() - self._since >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Publish what has gathered as a shard."""
        self._since = time.monotonic()
        if not self._waiting:
            return
        records = _together(self._waiting)
        used = [shard.name for shard in self._manifest.shards]
        number = 1 + max((int(name.removesuffix(_SUFFIX)) for name in used), default=-1)
        entry = write_shard(self._place, f"{number:06d}{_SUFFIX}", records)
        self._manifest = replace(self._manifest, shards=(*self._manifest.shards, entry))
        self._save()
        self._known.extend(records)
        self._waiting, self._bytes = [], 0
        self._recent.clear()

    def _save(self) -> None:
        self._place.write(NAME, [self._manifest.dump()])

    def _sound_shards(self) -> list[Shard]:
        """The shards that can be read; remains and damaged ones are taken away."""
        kept: list[Shard] = []
        entries = []
        for entry in self._manifest.shards:
            try:
                kept.append(Shard(self._place, entry))
            except StoreError:
                continue
            entries.append(entry)
        self._manifest = replace(self._manifest, shards=tuple(entries))
        self._save()  # before files go: the manifest never names one that is not there
        names = {entry.name for entry in entries}
        for file in self._place.files():
            if file not in names and (file.endswith(_SUFFIX) or _is_remains(file)):
                self._place.remove(file)
        return kept

    def _fresh(self, answered: Answered) -> Whole:
        """The places in the batch of what is not there yet."""
        self.refuse_changed(answered.ids_B, answered.contents_B)
        ids = answered.ids_B
        lacking = self.lacks(ids, answered.view_B)
        pairs = list(zip(ids.tolist(), answered.view_B.tolist(), strict=True))
        one_each = len(set(pairs)) == len(pairs) and self._recent.isdisjoint(pairs)
        if one_each and bool(lacking.all()):  # nearly always
            self._recent.update(pairs)
            return np.arange(len(pairs))
        fresh = []
        for number, (pair, lacks) in enumerate(zip(pairs, lacking.tolist(), strict=True)):
            if lacks and pair not in self._recent:
                self._recent.add(pair)
                fresh.append(number)
        return np.array(fresh, np.int64)

    def _encoded(self, answered: Answered, fresh: Whole) -> Records:
        ids = answered.ids_B.cpu().numpy().astype(np.int64)
        views = answered.view_B.cpu().numpy().astype(np.int64)
        columns = {
            signal.name: _column(signal, answered, ids, views, fresh)
            for signal in self._shaped(answered).signals
        }
        return Records(ids[fresh], views[fresh], answered.contents_B[fresh], columns)

    def _shaped(self, answered: Answered) -> Manifest:
        """The manifest with the row shapes that the first answers show; later ones must agree."""
        signals = []
        for signal in self._manifest.signals:
            if signal.name not in answered.signals:
                raise StoreError(
                    f"The teacher gave no {signal.name!r}, which {self.name} is to hold. "
                    "Leave it out, or take a teacher that gives it."
                )
            shape = _row_shape(answered.signals[signal.name])
            if signal.row_shape not in (None, shape):
                raise StoreError(
                    f"{signal.name!r} came in rows of {shape}, and {self.name} holds rows of "
                    f"{signal.row_shape}. Give all samples in one size."
                )
            signals.append(replace(signal, row_shape=shape))
        self._manifest = replace(self._manifest, signals=tuple(signals))
        return self._manifest


def _opened(where: Place, key: StoreKey, codecs: Mapping[str, Codec]) -> Manifest:
    """The manifest that is there, if it is of the same things, or a new one."""
    signals = tuple(StoredSignal(name=name, codec=codec) for name, codec in codecs.items())
    if where.read(NAME) is None:
        made_with: dict[str, object] = {"packages": installed(), "git_revision": git_revision()}
        return Manifest(key=key, signals=signals, made_with=made_with)
    found = read_manifest(where)
    found.key.refuse_unless(key, store=where.name)
    mine, theirs = ({s.name: s.codec for s in many} for many in (found.signals, signals))
    if mine != theirs:
        raise StoreError(
            f"The store {where.name} holds {_listed(mine)}, and {_listed(theirs)} were asked for. "
            "Label into another folder, or ask for the same."
        )
    return found


def _listed(codecs: Mapping[str, Codec]) -> str:
    return ", ".join(f"{name} as {codec!r}" for name, codec in codecs.items()) or "nothing"


def _is_remains(file: str) -> bool:
    return file.startswith(".") and file.endswith(".part")


def _column(
    signal: StoredSignal, answered: Answered, ids: Whole, views: Whole, fresh: Whole
) -> Column:
    values = answered.signals[signal.name]
    counts = answered.counts.get(signal.name, np.ones(len(ids), np.int64))
    num_rows = len(values.hidden_ND if isinstance(values, LazyLogits) else values)
    if num_rows != counts.sum():
        raise StoreError(
            f"{signal.name!r} came as {num_rows} rows for {len(ids)} samples; "
            f"{int(counts.sum())} were expected."
        )
    firsts = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(ids)), counts)
    keys = row_keys(ids[owner], views[owner], np.arange(len(owner)) - firsts[owner])
    if len(fresh) == len(ids):
        chosen = values
    else:
        rows = np.flatnonzero(np.isin(owner, fresh))
        chosen, keys, counts = _some(values, torch.from_numpy(rows)), keys[rows], counts[fresh]
    return Column(_written(signal.codec, chosen, torch.from_numpy(keys)), counts)


def _row_shape(values: Rows) -> tuple[int, ...]:
    return (values.num_classes,) if isinstance(values, LazyLogits) else tuple(values.shape[1:])


def _some(values: Rows, rows: Tensor) -> Rows:
    if isinstance(values, LazyLogits):
        return replace(values, hidden_ND=values.hidden_ND[rows.to(values.hidden_ND.device)])
    return values[rows.to(values.device)]


def _written(codec: Codec, values: Rows, keys_N: Tensor) -> Encoded:
    """Rows as bytes; logits that are not computed yet are, some rows at a time."""
    if isinstance(values, Tensor):
        return codec.encode(values.detach().cpu(), keys_N=keys_N)
    size = max(1, PIECE_BYTES // (4 * values.num_classes))
    parts = []
    for start in range(0, max(len(keys_N), 1), size):
        rows = slice(start, start + size)
        logits = values.rows(rows).dense().detach().float()
        parts.append(codec.encode(logits, keys_N=keys_N[rows]))
    return join(parts)


def _together(many: list[Records]) -> Records:
    columns = {
        name: Column(
            join([records.columns[name].rows for records in many]),
            np.concatenate([records.columns[name].counts_N for records in many]),
        )
        for name in many[0].columns
    }
    return Records(
        np.concatenate([records.ids_N for records in many]),
        np.concatenate([records.views_N for records in many]),
        np.concatenate([records.contents_N for records in many]),
        columns,
    )
