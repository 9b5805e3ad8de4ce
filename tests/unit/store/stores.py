"""A small set, a teacher with layers, and stores of its answers."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from potstill.data import Augment, Feed, Normalise, Samples
from potstill.protocols import Offers, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.store import Labelled, StoreKey, StoreWriter, label
from potstill.store.codec import Codec
from potstill.store.codecs import DenseLogits, FloatTensor
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.testing import tiny_mlp

JITTER = Augment.parse([{"op": "noise", "std": 0.3}], seed=7)
ALL = {
    "logits": DenseLogits("fp32"),
    "features/2": FloatTensor("fp32"),
    "embedding": FloatTensor("fp32"),
}


def samples(rows: int = 160, *, seed: int = 0, first_id: int = 1000) -> Samples:
    """Normal points in 6 dimensions of 3 classes, their ids not in order."""
    generator = torch.Generator().manual_seed(seed)
    ids = first_id + torch.randperm(rows, generator=torch.Generator().manual_seed(1))
    inputs = torch.randn(rows, 6, generator=generator)
    return Samples(inputs, ids, torch.arange(rows) % 3)


def feed(
    given: Samples | None = None,
    *,
    augment: Augment | None = None,
    views: int | None = None,
    shuffle: bool = False,
    **changes,
) -> Feed:
    """Batches of 16, normalised as they are."""
    return Feed(
        samples=samples() if given is None else given,
        batch_size=16,
        seed=3,
        normalise=changes.pop("normalise", Normalise()),
        augment=augment,
        views=views,
        shuffle=shuffle,
        num_classes=3,
        **changes,
    )


@final
class Embedding(Teacher):
    """A teacher with layers that also gives an embedding, at a pace.

    It calculates in eighths, which float32 adds up without rounding: its answer to a sample is the
    same bit for bit, wherever in a batch the sample stands.
    """

    def __init__(self, *, seed: int = 0, pause: float = 0.0) -> None:
        module = tiny_mlp(6, 8, 5, 3, seed=seed)
        with torch.no_grad():
            for weights in module.parameters():
                weights.copy_(weights.mul(8).round() / 8)
        self._inner = ModuleTeacher(module, Classification())
        self._pause = pause
        self.asked = 0

    def offers(self) -> Offers:
        return self._inner.offers()

    def fingerprint(self) -> str:
        return self._inner.fingerprint()

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        self.asked += len(batch)
        time.sleep(self._pause)
        rounded = batch.inputs.mul(8).round() / 8
        said = self._inner.signals(Batch(rounded), layers=layers)
        return Signals(logits=said.logits, features=said.features, embedding=rounded[:, :2])


def key(teacher: Teacher, shown: Feed) -> StoreKey:
    origin = shown.batch(0, 0).origin
    return StoreKey(
        teacher=teacher.fingerprint(), preparation=origin.preparation, augment=origin.augment
    )


def write(
    where: Path | str,
    *,
    shown: Feed | None = None,
    teacher: Teacher | None = None,
    codecs: Mapping[str, Codec] = ALL,
    views: int = 1,
    shard_bytes: int = 2000,
    seconds: float = 1000.0,
) -> Labelled:
    """A store of a few shards."""
    shown, teacher = shown or feed(), teacher or Embedding()
    with StoreWriter(
        where,
        key=key(teacher, shown),
        codecs=codecs,
        shard_bytes=shard_bytes,
        seconds=seconds,
    ) as writer:
        return label(teacher, shown, writer, views=views)


def logits(signals: Signals) -> Tensor:
    assert isinstance(signals.logits, Logits)
    return signals.logits.values_NC


def hold(where: Path, taken, release) -> None:
    """Keep a store open for writing until told, for another process to meet."""
    teacher, shown = Embedding(), feed()
    with StoreWriter(where, key=key(teacher, shown), codecs=ALL):
        taken.set()
        release.wait(60)


def race(where: Path, start, answers) -> None:
    """Label as soon as told, and say how that went."""
    start.wait(60)
    try:
        write(where, teacher=Embedding(pause=0.05))
    except Exception as error:  # noqa: BLE001
        answers.put(f"{type(error).__name__}: {error}")
    else:
        answers.put("done")


KILLED_ROWS = 16 * 150


def label_slowly(where: Path, pause: float) -> None:
    """Two views of every sample in shards of some milliseconds, to be killed meanwhile."""
    shown = feed(samples(KILLED_ROWS), augment=JITTER, views=2)
    write(
        where,
        shown=shown,
        teacher=Embedding(pause=pause),
        views=2,
        shard_bytes=1 << 20,
        seconds=pause * 4,
    )


def network() -> nn.Module:
    return tiny_mlp(6, 4, 3, seed=5)
