"""The store beside what it stands in for: the bare teacher when it is written, a step when read.

All on one thread, in turns. Images are random: what is in them changes no time. A small teacher
labels as many samples as MNIST has.
`python bench/store.py [TURNS [WEIGHTS]]`, weights of the resnet32x4 that `speed: auto` makes fast.
"""

import math
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import nn

from potstill import KD, CrossEntropy, Distiller, ModuleTeacher, StoredTeacher
from potstill.data import Feed, Normalise, Samples
from potstill.models import ModelConfig, create_model
from potstill.protocols import Teacher
from potstill.runtime.environment import processor_name
from potstill.runtime.fabric import Runtime
from potstill.store import StoreKey, StoreWriter, label
from potstill.store.codec import Codec
from potstill.store.codecs import DenseLogits, FloatTensor, TopK
from potstill.tasks import Classification
from potstill.teachers.fast import Request, hasten
from potstill.testing import tiny_mlp

CLASSES, BATCH = 100, 64
EXACT = DenseLogits("fp32")


def images(batches: int, shape: tuple[int, ...] = (3, 32, 32)) -> Feed:
    rows = batches * BATCH
    inputs = torch.randint(0, 256, (rows, *shape), dtype=torch.uint8)
    samples = Samples(inputs, torch.arange(rows), torch.arange(rows) % CLASSES)
    return Feed(
        samples=samples, batch_size=BATCH, seed=0, normalise=Normalise(scale=255.0), shuffle=False
    )


def network(name: str, weights: Path | None = None) -> nn.Module:
    config = ModelConfig(
        source="builtin", name=name, options={}, input_shape=(3, 32, 32), num_outputs=CLASSES
    )
    model = create_model(config, seed=0)
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model


class Took(NamedTuple):
    """Seconds on the clock, and of processors, all threads together."""

    clock: float
    processor: float


def took(work: Callable[[], object]) -> Took:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - clock, time.process_time() - processor)


def asked(teacher: Teacher, feed: Feed, layers: list[str]) -> None:
    """Every batch, the answers thrown away."""
    for batch in feed.epoch(0):
        teacher.signals(batch, layers=layers)


def written(where: Path, teacher: Teacher, feed: Feed, codecs: Mapping[str, Codec]) -> None:
    """A store, from nothing to the last byte on the disk."""
    shutil.rmtree(where, ignore_errors=True)
    origin = feed.batch(0, 0).origin
    assert origin is not None
    key = StoreKey(teacher=teacher.fingerprint(), preparation=origin.preparation)
    with StoreWriter(where, key=key, codecs=codecs) as writer:
        label(teacher, feed, writer)


def labelling(turns: int, folder: Path, weights: Path | None) -> None:
    print("\n| labelling | batches | bare ms | labelling ms | throughput | by processor time |")
    print("|---|---|---|---|---|---|")
    task = Classification()
    heavy = images(16)
    request = Request(task=task, batches=[heavy.batch(0, i) for i in range(4)], steps=100_000)
    resnet, choices = hasten(ModuleTeacher(network("resnet32x4", weights), task), request)
    chosen = ", ".join(c.chosen.name for c in choices)
    small = nn.Sequential(nn.Flatten(), tiny_mlp(784, 1200, 1200, CLASSES))
    mlp = ModuleTeacher(small, task)
    cases: list[tuple[str, Teacher, Feed, dict[str, Codec]]] = [
        ("784-1200-1200-100, fp32", mlp, images(938, (1, 28, 28)), {"logits": EXACT}),
        ("784-1200-1200-100, fp16", mlp, images(938, (1, 28, 28)), {"logits": DenseLogits("fp16")}),
        ("784-1200-1200-100, topk 16", mlp, images(938, (1, 28, 28)), {"logits": TopK(16)}),
        (
            "784-1200-1200-100, fp32 and a layer in fp16",
            mlp,
            images(938, (1, 28, 28)),
            {"logits": EXACT, "features/1.2": FloatTensor("fp16")},
        ),
        (f"resnet32x4 ({chosen}), fp32", resnet, heavy, {"logits": EXACT}),
    ]
    for name, teacher, feed, codecs in cases:
        layers = [n.removeprefix("features/") for n in codecs if n != "logits"]

        bare = partial(asked, teacher, feed, layers)
        whole = partial(written, folder / "labelled", teacher, feed, codecs)
        bare(), whole()
        times = [(took(bare), took(whole)) for _ in range(turns)]
        shown(name, feed.num_batches, times, better=True)


def reading(turns: int, folder: Path) -> None:
    print("\n| reading | batches | step ms | read ms | share of a step | by processor time |")
    print("|---|---|---|---|---|---|")
    feed = images(40)
    teacher = ModuleTeacher(nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES)), Classification())
    distiller = Distiller(network("resnet8x4"), runtime=Runtime(device="cpu"))
    cases: list[tuple[str, dict[str, Codec], int]] = [
        ("fp32, kept in memory", {"logits": EXACT}, 1 << 30),
        ("fp32, from the file", {"logits": EXACT}, 0),
        ("topk 16, kept in memory", {"logits": TopK(16)}, 1 << 30),
        ("topk 16, from the file", {"logits": TopK(16)}, 0),
    ]
    for name, codecs, memory in cases:
        written(folder / "read", teacher, feed, codecs)
        stored = StoredTeacher(folder / "read", memory=memory)
        batches = [feed.batch(0, index) for index in range(feed.num_batches)]
        for batch in batches:
            stored.signals(batch)  # checksums are compared at first touch
        distiller.step(batches[0])
        times = [
            (took(partial(distiller.step, batch)), took(partial(stored.signals, batch)))
            for batch in batches[:turns]
        ]
        shown(name, len(times), times, better=False)


def stepping(turns: int, folder: Path) -> None:
    print("\n| step of resnet8x4 | steps | no teacher ms | stored ms | ratio | by processor time |")
    print("|---|---|---|---|---|---|")
    feed = images(40)
    teacher = ModuleTeacher(nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES)), Classification())
    written(folder / "step", teacher, feed, {"logits": EXACT})
    objective = 0.9 * KD(temperature=4) + 0.1 * CrossEntropy()
    alone = Distiller(network("resnet8x4"), runtime=Runtime(device="cpu"))
    taught = Distiller(
        network("resnet8x4"),
        StoredTeacher(folder / "step"),
        objective=objective,
        runtime=Runtime(device="cpu"),
    )
    batches = [feed.batch(0, index) for index in range(feed.num_batches)]
    alone.step(batches[0]), taught.step(batches[0])
    times = []
    for number in range(turns):
        batch = batches[number % len(batches)]
        times.append((took(partial(alone.step, batch)), took(partial(taught.step, batch))))
    shown("KD and labels", len(times), times, better=False)


def shown(name: str, batches: int, times: list[tuple[Took, Took]], *, better: bool) -> None:
    """One row: medians, and the medians of the paired ratios by both clocks."""
    cells = [name, str(batches)]
    cells += [
        f"{1000 * statistics.median(t.clock for t in column):.3f}"
        for column in zip(*times, strict=True)
    ]
    for which in Took._fields:
        pairs = [(getattr(a, which), getattr(b, which)) for a, b in times]
        ratios = sorted(a / b if better else b / a for a, b in pairs)
        half = 0.98 / math.sqrt(len(ratios))  # order statistics that enclose the median
        low, high = (
            ratios[round(max(0.0, min(1.0, q)) * (len(ratios) - 1))]
            for q in (0.5 - half, 0.5 + half)
        )
        cells.append(f"{statistics.median(ratios):.4f} ({low:.4f} to {high:.4f})")
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    weights = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    torch.set_num_threads(1)
    versions = f"python {platform.python_version()}, torch {torch.__version__}"
    print(f"{processor_name()}, 1 thread, {versions}, {turns} turns")
    with tempfile.TemporaryDirectory(prefix="potstill-bench-") as name:
        reading(2 * turns, Path(name))
        stepping(2 * turns, Path(name))
        labelling(turns, Path(name), weights)


if __name__ == "__main__":
    main()
