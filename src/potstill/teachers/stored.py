"""A store as teacher: answers that were written once, by sample and view."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from potstill.errors import HandshakeError, StoreError
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, Logits, Origin, Signals, SparseLogits
from potstill.store import Store
from potstill.store.checks import refuse_other
from potstill.store.labelling import EMBEDDING, FEATURES, LOGITS
from potstill.teachers.fingerprints import digest

MEMORY = 1 << 30
"""Bytes that the decoded rows of one signal may take; more is read from the store at each batch."""

Decoded = Tensor | SparseLogits


@final
class StoredTeacher(Teacher):
    """Answers from a store for the samples and views that were labelled.

    The first batch of a set is checked against the store, sample by sample: it must hold every
    sample that may come, with the same contents, normalisation and augmentation, in every view.

    Args:
        store: what to read, opened or where it lies.
        of: the teacher (or its fingerprint) that the store must have been written by.
        check: `False` trusts that `ids` and `view` name what was labelled, for batches of your own
            that do not say what they are from.
        memory: keep a signal's rows decoded in memory if they take no more bytes than this; a batch
            is then one look-up on the device, otherwise it is read and decoded each time.

    Raises:
        StoreError: there is no store, it is damaged, or another teacher's.
    """

    def __init__(
        self,
        store: Store | Path | str,
        *,
        of: Teacher | str | None = None,
        check: bool = True,
        memory: int = MEMORY,
    ) -> None:
        self.store = store if isinstance(store, Store) else Store(store)
        self._check, self._memory = check, memory
        self._kept: dict[str, Decoded | None] = {}
        self._starts: dict[str, Tensor | None] = {}
        self._known: Origin | None = None
        self._device = torch.device("cpu")
        self._sparse = self._is_sparse()
        if of is not None:
            self._must_be_of(of if isinstance(of, str) else of.fingerprint())

    def offers(self) -> Offers:
        """What was stored."""
        manifest = self.store.manifest
        names = [signal.name for signal in manifest.signals]
        layers = tuple(n.removeprefix(FEATURES) for n in names if n.startswith(FEATURES))
        logits = manifest.signal(LOGITS)
        if logits is None:
            return Offers(logits=None, layers=layers or None)
        kind = LogitKind.SPARSE if self._sparse else LogitKind(manifest.key.kind)
        classes = None if logits.row_shape is None else logits.row_shape[-1]
        return Offers(logits=kind, num_classes=classes, layers=layers or None)

    def fingerprint(self) -> str:
        """Digest of the teacher's fingerprint, of what it was asked, and of the codecs."""
        manifest = self.store.manifest
        codecs = [
            (s.name, s.codec.name, sorted(s.codec.options().items())) for s in manifest.signals
        ]
        return digest(["stored", *manifest.key.to_json().values(), repr(codecs)])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """What was stored about the batch's samples and views, on the batch's device.

        Raises:
            HandshakeError: the batch is mixed, or shows other data or views than were labelled.
            StoreError: bytes that are read for the first time are damaged.
        """
        records = self._records(batch)
        logits: Logits | SparseLogits | None = None
        if self.store.manifest.signal(LOGITS) is not None:
            found = self._rows(LOGITS, records)
            logits = found if isinstance(found, SparseLogits) else Logits(found)
        return Signals(
            logits=logits,
            features={layer: self._dense(FEATURES + layer, records) for layer in layers},
            embedding=(
                None
                if self.store.manifest.signal(EMBEDDING) is None
                else self._dense(EMBEDDING, records)
            ),
        )

    def to(self, device: torch.device) -> Self:
        """Keep what is decoded on a device."""
        if device != self._device:
            self._device = device
            self._kept.clear()
            self._starts.clear()
            self.store.table.to(device)
        return self

    # Which records

    def _records(self, batch: Batch) -> Tensor:
        if batch.ids is None:
            raise HandshakeError(
                "A stored teacher cannot be asked about mixed samples (mixup, cutmix): they are "
                "new at every step. Switch mixing off, or set `store: off`."
            )
        self.to(batch.ids.device)
        view = torch.zeros_like(batch.ids) if batch.view is None else batch.view
        if self._check and (batch.origin is None or batch.origin is not self._known):
            self._meet(batch.origin)
        records = self.store.find(batch.ids, view)
        # on another device looking would be a synchronisation, and the whole set was checked
        if (not self._check or records.device.type == "cpu") and bool((records < 0).any()):
            lacking = int((records < 0).nonzero()[0])
            raise HandshakeError(
                f"The store {self.store.name} has nothing on sample {int(batch.ids[lacking])}, "
                f"view {int(view[lacking])}. Label what is shown, and show what was labelled."
            )
        return records

    def _meet(self, origin: Origin | None) -> None:
        """Check a whole set once, before its first batch is answered."""
        if origin is None:
            raise HandshakeError(
                "This batch does not say what set it is from, so a stored teacher cannot tell "
                "whether it was labelled. Take a Feed or TensorBatches, or set check=False."
            )
        refuse_other(self.store, origin)
        self._known = origin

    def _must_be_of(self, fingerprint: str) -> None:
        mine = self.store.manifest.key.teacher
        if mine != fingerprint:
            raise StoreError(
                f"The store {self.store.name} is of another teacher ({mine[:12]}…, asked for "
                f"{fingerprint[:12]}…). Label with this teacher, or take the store's."
            )

    # What they say

    def _dense(self, signal: str, records: Tensor) -> Tensor:
        found = self._rows(signal, records)
        assert isinstance(found, Tensor), "only logits are ever sparse"
        return found

    def _rows(self, signal: str, records: Tensor) -> Decoded:
        """The rows of some records, from memory if they are kept there."""
        if signal not in self._kept:
            self._kept[signal] = self._decoded(signal)
        kept = self._kept[signal]
        if kept is None:
            return _moved(self.store.decode(signal, records.cpu().numpy()), self._device)
        return _picked(kept, self._numbers(signal, records))

    def _decoded(self, signal: str) -> Decoded | None:
        """All rows of a signal on the device, or `None` if they would take too much memory."""
        everything = np.arange(len(self.store))
        sample = self.store.decode(signal, everything[:64])
        if _bytes(sample) / 64 * len(everything) > self._memory:
            return None
        return _moved(self.store.decode(signal, everything), self._device)

    def _numbers(self, signal: str, records: Tensor) -> Tensor:
        """The numbers of the rows of some records."""
        if signal not in self._starts:
            counts = self.store.counts(signal)
            starts = None if counts is None else np.concatenate([[0], np.cumsum(counts)])
            self._starts[signal] = None if starts is None else torch.from_numpy(starts)
        starts_N = self._starts[signal]
        if starts_N is None:
            return records
        chosen = records.cpu()
        lengths = starts_N[chosen + 1] - starts_N[chosen]
        firsts = torch.repeat_interleave(starts_N[chosen] - (lengths.cumsum(0) - lengths), lengths)
        return (torch.arange(len(firsts)) + firsts).to(self._device)

    def _is_sparse(self) -> bool:
        if self.store.manifest.signal(LOGITS) is None or not len(self.store):
            return False
        return isinstance(self.store.decode(LOGITS, np.arange(1)), SparseLogits)


def _tensors(rows: Decoded) -> tuple[Tensor, ...]:
    if isinstance(rows, Tensor):
        return (rows,)
    return rows.ids_NK, rows.logprobs_NK, rows.tail_N


def _bytes(rows: Decoded) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(rows))


def _moved(rows: Decoded, device: torch.device) -> Decoded:
    if isinstance(rows, Tensor):
        return rows.to(device)
    ids, logprobs, tail = (tensor.to(device) for tensor in _tensors(rows))
    return replace(rows, ids_NK=ids, logprobs_NK=logprobs, tail_N=tail)


def _picked(rows: Decoded, numbers: Tensor) -> Decoded:
    if isinstance(rows, Tensor):
        return rows.index_select(0, numbers)
    ids, logprobs, tail = (tensor.index_select(0, numbers) for tensor in _tensors(rows))
    return replace(rows, ids_NK=ids, logprobs_NK=logprobs, tail_N=tail)
