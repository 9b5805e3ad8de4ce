"""Codecs of logits on the synthetic check: bytes, gradient against dense, time to write and read.

Beside the targets that other systems store: k classes whose probabilities are made to sum to 1,
and k classes with a tail, uncompressed. One thread; times are of the processor.
`python bench/codecs.py [REPEATS]`.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from _zipf import CLASSES, POSITIONS, Check, Deviation, deviation, gradient, synthetic
from _zipf import statistics as figures_of
from torch import Tensor

from potstill.runtime.environment import processor_name
from potstill.signals import SparseLogits
from potstill.store.codec import Codec
from potstill.store.codecs import DenseLogits, Sampled, TopK, Vocabulary

OURS: dict[str, Codec] = {
    "dense, fp32": DenseLogits("fp32"),
    "dense, fp16": DenseLogits("fp16"),
    "dense, bf16": DenseLogits("bf16"),
    "topk, k = 128": TopK(k=128),
    "topk, k = 50": TopK(k=50),
    "topk, k = 50, 8 bit": TopK(k=50, logprobs="8bit"),
    "topk, k = 12": TopK(k=12),
    "vocabulary, at most 128, p = 0.995": Vocabulary(max_k=128, top_p=0.995),
    "**vocabulary**": Vocabulary(),
    "vocabulary, 8 to 32": Vocabulary(min_k=8, max_k=32),
    "**sampled**, 50 draws": Sampled(draws=50),
    "sampled, 12 draws": Sampled(draws=12),
}


class Row(NamedTuple):
    """One line of the table; processor time in µs a position, `None` for plain targets."""

    name: str
    bytes: float
    usual: Deviation
    close: Deviation
    write: float | None
    read: float | None


def top_k(teacher: Tensor, k: int, *, tail: bool) -> SparseLogits:
    """The plain target, float32; without a tail what is kept is made to sum to 1."""
    kept, ids = teacher.softmax(-1).topk(k)
    rest = 1 - kept.sum(-1)
    if not tail:
        kept, rest = kept / kept.sum(-1, keepdim=True), torch.zeros_like(rest)
    return SparseLogits(ids, kept.log(), rest, CLASSES, 1.0)


def deviations(check: Check, target: SparseLogits | Tensor) -> tuple[Deviation, Deviation]:
    p = check.teacher.softmax(-1)
    usual, close = (
        deviation(student.softmax(-1) - p, gradient(student, target))
        for student in check.students.values()
    )
    return usual, close


def measured(name: str, codec: Codec, check: Check, repeats: int) -> Row:
    keys = torch.arange(POSITIONS)

    def write() -> None:
        codec.encode(check.teacher, keys_N=keys)

    encoded = codec.encode(check.teacher, keys_N=keys)

    def read() -> None:
        codec.decode(encoded, row_shape=(CLASSES,))

    target = codec.decode(encoded, row_shape=(CLASSES,))
    if isinstance(target, Tensor):
        target = target.softmax(-1)
    usual, close = deviations(check, target)
    size = len(encoded.data) / POSITIONS
    return Row(name, size, usual, close, _took(write, repeats), _took(read, repeats))


def rivals(check: Check) -> list[Row]:
    rows = []
    for k in (12, 50, 128):
        for tail in (False, True):
            usual, close = deviations(check, top_k(check.teacher, k, tail=tail))
            size = k * 34 / 8 + 2 * tail  # ids of 18 bits, bfloat16 log-probabilities
            kind = "with tail" if tail else "renormalised"
            rows.append(Row(f"plain top {k}, {kind}", size, usual, close, None, None))
    return rows


def _took(work: Callable[[], None], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.process_time()  # of this process: others on the machine do not count
        work()
        times.append(time.process_time() - started)
    return statistics.median(times) / POSITIONS * 1e6


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    check = synthetic()
    rows = rivals(check) + [measured(n, codec, check, repeats) for n, codec in OURS.items()]
    versions = f"python {platform.python_version()}, torch {torch.__version__}"
    print(f"{processor_name()}, 1 thread, {versions}, median of {repeats}")
    print(f"{POSITIONS} positions, {CLASSES:,} classes:", end=" ")
    print(", ".join(f"{name} {value:.2f}" for name, value in figures_of(check.teacher).items()))
    print("| target | bytes | angle | p95 | norm | batch | close student | write µs | read µs |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        size = f"{row.bytes:,.0f}" if row.bytes > 1000 else f"{row.bytes:.1f}"
        u, times = row.usual, [f"{t:.1f}" if t else "–" for t in (row.write, row.read)]
        print(
            f"| {row.name} | {size} | {u.angle:.2f}° | {u.angle_p95:.1f}° | {u.norm:.2f} "
            f"| {u.batch_angle:.2f}° | {row.close.angle:.2f}° | {' | '.join(times)} |"
        )


if __name__ == "__main__":
    main()
