"""Filling a store: a teacher asked about every sample, the answers written behind its back."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor

from potstill.errors import StoreError
from potstill.protocols import Teacher
from potstill.signals import Batch, LazyLogits, Logits, Origin, Signals
from potstill.store.contents import contents_of
from potstill.store.rows import Whole
from potstill.store.writer import Answered, Rows, StoreWriter

LOGITS, EMBEDDING, FEATURES = "logits", "embedding", "features/"

_AHEAD = 16  # batches that the teacher may be ahead of the writer
_Counts = Mapping[str, Whole]
_Put = Callable[[Batch, Mapping[str, Rows], _Counts], None]


class Batches(Protocol):
    """What is labelled: batches by epoch and position, each with `ids` and `origin`."""

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        ...

    def batch(self, epoch: int, index: int) -> Batch:
        """One batch."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Labelled:
    """What a labelling did.

    Args:
        asked: (sample, view) pairs that the teacher was asked about.
        kept: pairs that were in the store already.
        seconds: wall-clock time, the last shard included.
    """

    asked: int
    kept: int
    seconds: float


def label(
    teacher: Teacher,
    batches: Batches,
    writer: StoreWriter,
    *,
    views: int = 1,
    samples_of: Callable[[Batch], Tensor | None] = lambda _batch: None,
    context: Callable[[], AbstractContextManager[None]] = nullcontext,
    advance: Callable[[int], None] = lambda _done: None,
) -> Labelled:
    """Ask a teacher about every batch of the first `views` epochs that is not stored yet.

    The teacher never waits for the disk: encoding and writing happen in a thread of their own, at
    most 16 batches behind. A batch of which anything is missing is asked about as a whole, so that
    an answer does not depend on what was there before.

    Args:
        teacher: asked in the calling thread.
        batches: in the order of labelling; with `augment`, epoch e shows view e + 1.
        writer: of the store.
        views: how many epochs.
        samples_of: `[N]` of each row of logits the sample of the batch it is about (see `Target`);
            `None` where each sample has one row.
        context: entered around each question (autocast).
        advance: told how many batches are done.

    Raises:
        StoreError: batches that do not say what they are from, or what the writer raises.
    """
    started = time.perf_counter()
    known = _Contents()
    _check_known(batches, writer, known)
    names = [signal.name for signal in writer.manifest.signals]
    layers = tuple(n.removeprefix(FEATURES) for n in names if n.startswith(FEATURES))
    asked = total = 0
    with _writing(writer, known, context) as put:
        for number in range(views * batches.num_batches):
            batch = batches.batch(*divmod(number, batches.num_batches))
            ids, view = _identity(batch)
            lacking = int(writer.lacks(ids, view).sum())
            total += len(batch)
            asked += lacking
            if lacking:
                with context():
                    said = teacher.signals(batch, layers=layers)
                put(batch, _named(said, names), _counts(samples_of(batch), len(batch)))
            advance(number + 1)
    return Labelled(asked=asked, kept=total - asked, seconds=time.perf_counter() - started)


def _check_known(batches: Batches, writer: StoreWriter, known: "_Contents") -> None:
    """Samples that are stored already must be the same ones, or appending would mix two sets."""
    if writer.manifest.shards and batches.num_batches:
        origin = batches.batch(0, 0).origin
        if origin is not None:
            writer.refuse_changed(origin.ids, known(origin, origin.ids))


def _identity(batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.ids is None or batch.origin is None:
        raise StoreError(
            "A batch does not say which samples it holds, so its answers cannot be stored: "
            "mixed samples are no one's. Label without mixing, from a Feed or TensorBatches."
        )
    return batch.ids, torch.zeros_like(batch.ids) if batch.view is None else batch.view


def _counts(samples_N: Tensor | None, num_samples: int) -> Mapping[str, Whole]:
    """How many rows of logits each sample has, if not one."""
    if samples_N is None:
        return {}
    return {LOGITS: torch.bincount(samples_N, minlength=num_samples).cpu().numpy()}


def _named(said: Signals, names: list[str]) -> Mapping[str, Rows]:
    """The signals by the names that they are stored under."""
    found: dict[str, Rows] = {FEATURES + name: values for name, values in said.features.items()}
    if said.embedding is not None:
        found[EMBEDDING] = said.embedding
    if LOGITS in names:
        match said.logits:
            case Logits(values_NC):
                found[LOGITS] = values_NC
            case LazyLogits():
                found[LOGITS] = said.logits
            case _:
                raise StoreError(
                    "A teacher without logits of all classes cannot be stored: store its source."
                )
    return {name: _copy(values) for name, values in found.items() if name in names}


def _copy(values: Rows) -> Rows:
    """A teacher may use the memory of its answer for the next one."""
    if isinstance(values, LazyLogits):
        return replace(values, hidden_ND=values.hidden_ND.detach().clone())
    return values.detach().clone()


@contextmanager
def _writing(
    writer: StoreWriter, known: "_Contents", context: Callable[[], AbstractContextManager[None]]
) -> Iterator[_Put]:
    """A thread that adds what it is given; its failure is raised in the caller."""
    waiting: queue.Queue[tuple[Batch, Mapping[str, Rows], _Counts] | None] = queue.Queue(_AHEAD)
    failures: list[BaseException] = []

    def work() -> None:
        while (given := waiting.get()) is not None:
            if failures:
                continue  # so that the caller never waits on a full queue
            try:
                with context(), torch.no_grad():  # heads that are still to be computed
                    writer.add(_answered(*given, known))
            except BaseException as error:  # noqa: BLE001  (raised again by `put`, in the caller)
                failures.append(error)

    def put(batch: Batch, said: Mapping[str, Rows], counts: _Counts) -> None:
        if failures:
            raise failures[0]
        waiting.put((batch, said, counts))

    thread = threading.Thread(target=work, name="potstill-store", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        waiting.put(None)
        thread.join()
    if failures:
        raise failures[0]


def _answered(
    batch: Batch, said: Mapping[str, Rows], counts: _Counts, known: "_Contents"
) -> Answered:
    ids, view = _identity(batch)
    assert batch.origin is not None, "checked with the identity"
    return Answered(
        ids_B=ids.cpu(),
        view_B=view.cpu(),
        contents_B=known(batch.origin, ids),
        signals=said,
        counts=counts,
    )


@final
class _Contents:
    """Digests of samples by id, computed for one set of batches at its first batch."""

    def __init__(self) -> None:
        self._origin: Origin | None = None
        self._ids = self._contents = np.empty(0, np.int64)

    def __call__(self, origin: Origin, ids_B: Tensor) -> Whole:
        if origin is not self._origin:
            ids = origin.ids.cpu().numpy()
            order = np.argsort(ids, kind="stable")
            self._origin, self._ids = origin, ids[order]
            self._contents = contents_of(origin.inputs)[order]
        return self._contents[np.searchsorted(self._ids, ids_B.cpu().numpy())]
