"""A step of `Distiller.fit` beside one of the plain PyTorch loop: ratio of times, taken in pairs.

Both train the same student with the same teacher, batches and loss on one thread, in turns.
`python bench/overhead.py [PAIRS]`.
"""

import math
import os
import platform
import statistics
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill import KD, CrossEntropy, Distiller, ModuleTeacher, TensorBatches, TrainSettings
from potstill.runtime.environment import processor_name
from potstill.runtime.fabric import Runtime
from potstill.tasks import Classification
from potstill.testing import tiny_mlp

BATCH, STEPS = 256, 30  # steps of one block; the end of a fit is shared out among them


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH * STEPS, 784, generator=generator)
    return inputs, torch.randint(0, 10, (len(inputs),), generator=generator)


def plain_block(student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor) -> float:
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.0)
    torch.manual_seed(0)
    student.train()
    started = time.perf_counter()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for step, rows in enumerate(order.split(BATCH)):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimizer.zero_grad()
        inputs = x[rows]
        logits = student(inputs)
        with torch.no_grad():
            answers = teacher(inputs)
        q, p = F.log_softmax(logits / 4, -1), F.softmax(answers / 4, -1)
        soft = 16 * F.kl_div(q, p, reduction="batchmean")
        (0.9 * soft + 0.1 * F.cross_entropy(logits, y[rows])).backward()
        optimizer.step()
    return (time.perf_counter() - started) / STEPS


def our_block(student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor) -> float:
    batches = TensorBatches(x, y, batch_size=BATCH)
    distiller = Distiller(
        student,
        ModuleTeacher(teacher, Classification()),
        objective=0.9 * KD(temperature=4) + 0.1 * CrossEntropy(),
        settings=TrainSettings(epochs=1, batch_size=BATCH),
        runtime=Runtime(device="cpu"),
    )
    distiller.prepare(batches.batch(1, 0))  # epoch 1: the order of epoch 0 is drawn in the clock
    started = time.perf_counter()
    distiller.fit(batches)
    return (time.perf_counter() - started) / STEPS


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    torch.set_num_threads(1)
    x, y = data()
    teacher = tiny_mlp(784, 1200, 1200, 10, seed=1).eval().requires_grad_(False)
    times: list[tuple[float, float]] = []
    for number in range(pairs + 3):
        students = [tiny_mlp(784, 800, 800, 10, seed=2) for _ in range(2)]
        blocks = [plain_block, our_block]
        turn = blocks if number % 2 else blocks[::-1]
        took = {block: block(students.pop(), teacher, x, y) for block in turn}
        times.append((took[plain_block], took[our_block]))
    times = times[3:]  # the warm-up
    ratios = sorted(ours / plain for plain, ours in times)
    low, high = (ratios[round(q * (len(ratios) - 1))] for q in _median_interval(len(ratios)))
    versions = f"python {platform.python_version()}, torch {torch.__version__}"
    print(f"{processor_name()}, 1 thread, {versions}")
    print(f"{pairs} pairs of {STEPS} steps, batch {BATCH}, student 784-800-800-10")
    print("| plain step (ms) | Potstill step (ms) | ratio, median of pairs | 95 % interval |")
    print("|---|---|---|---|")
    plain_ms, ours_ms = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"| {plain_ms:.2f} | {ours_ms:.2f} | {statistics.median(ratios):.3f} "
        f"| {low:.3f} to {high:.3f} |"
    )


def _median_interval(n: int) -> tuple[float, float]:
    """Quantiles that enclose the median with 95 % confidence (order statistics)."""
    half = 0.98 / math.sqrt(n)
    return max(0.0, 0.5 - half), min(1.0, 0.5 + half)


if __name__ == "__main__":
    main()
