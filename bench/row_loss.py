"""Row-wise losses from hidden states and heads: Potstill's chunks beside eager PyTorch, TRL, Liger.

Each measurement is one step in a process of its own, in turns (A B C A B C …); the ratio is the
median over turns. On the processor, times are the seconds it spent on one thread, which other work
on the machine changes little. Peak memory is beyond inputs, weights and the weight's gradient, in
units of N, one tensor of logits.
`python bench/row_loss.py [--quick] [--turns 3] [--terms …] [--ways …] [--sizes …] [--width 512]`.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from _memory import CannotRun, peak, start
from _row_loss_ways import TERMS, WAYS, Problem, Way, make_problem

from potstill.runtime.environment import processor_name

SIZES = {"4096 × 32,000": (4096, 32_000), "2048 × 151,936": (2048, 151_936)}
COMPILED = {"Liger chunked"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time
ALIKE = {"fp32": 1e-4, "bf16": 3e-2}  # relative, of the loss: the rivals round in bfloat16


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    if options.child:
        way, term, dtype, size = options.child
        print(*_measure(way, term, dtype, size, width=options.width))
        return
    _say_where(options)
    print("| rows × classes | type | loss | way | seconds | Potstill / way | peak, N | remark |")
    print("|---|---|---|---|---|---|---|---|")
    for size in options.sizes[:1] if options.quick else options.sizes:
        for term in options.terms:
            for dtype in options.types:
                _compare(size, term, dtype, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one size, one turn")
    parser.add_argument("--turns", type=int, default=0)
    parser.add_argument("--width", type=int, default=512, help="of the hidden states, both sides")
    parser.add_argument("--terms", nargs="*", choices=list(TERMS), default=list(TERMS))
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--sizes", nargs="*", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--types", nargs="*", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.turns = options.turns or (1 if options.quick else 3)
    return options


def _say_where(options: argparse.Namespace) -> None:
    machine = torch.cuda.get_device_name() if DEVICE == "cuda" else processor_name()
    versions = [f"python {platform.python_version()}"]
    for package in ("torch", "trl", "liger-kernel"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    print(f"{machine}, 1 thread, {', '.join(versions)}")
    print(f"hidden width {options.width} on both sides, {options.turns} turns")


def _compare(size: str, term: str, dtype: str, options: argparse.Namespace) -> None:
    """Rows of the table for one loss at one size."""
    cells = f"| {size} | {dtype} | {term} "
    found: dict[str, list[Measured]] = {name: [] for name in options.ways}
    for turn in range(options.turns):
        for name in options.ways[:: 1 if turn % 2 == 0 else -1]:
            if turn and not found[name]:
                continue
            try:
                found[name].append(_in_a_child(name, term, dtype, size, options))
            except CannotRun as reason:
                print(f"{cells}| {name} | – | – | – | {reason} |", flush=True)
    ours = found.get("Potstill", [])
    for name, measured in found.items():
        if measured:
            print(f"{cells}| {name} | {_row(measured, ours, dtype)} |", flush=True)


class Measured(NamedTuple):
    """One step: its seconds, peak memory in N, and the loss."""

    seconds: float
    peak: float
    loss: float


def _row(measured: list[Measured], ours: list[Measured], dtype: str) -> str:
    seconds = statistics.median(m.seconds for m in measured)
    peak = statistics.median(m.peak for m in measured)
    if not ours:
        return f"{seconds:.2f} | – | {peak:.2f} | "
    pairs = zip(ours, measured, strict=True)
    ratio = statistics.median(our.seconds / other.seconds for our, other in pairs)
    difference = abs(measured[0].loss / ours[0].loss - 1)
    remark = "" if difference < ALIKE[dtype] else f"its loss differs by {difference:.1%}"
    return f"{seconds:.2f} | {ratio:.2f} | {peak:.2f} | {remark}"


def _in_a_child(
    name: str, term: str, dtype: str, size: str, options: argparse.Namespace
) -> Measured:
    command = [sys.executable, __file__, "--child", name, term, dtype, size]
    command += ["--width", str(options.width)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun((done.stderr.strip().splitlines() or ["it was killed"])[-1][:150])
    return Measured(*(float(number) for number in done.stdout.split()[-3:]))


def _measure(way: str, term: str, dtype: str, size: str, *, width: int) -> Measured:
    """One step, after a small one: libraries take their memory when they are first used."""
    small = make_problem(term, 64, 512, width=32, dtype=DTYPES[dtype], device=DEVICE)
    _step(WAYS[way], small)
    rows, classes = SIZES[size]
    problem = make_problem(term, rows, classes, width=width, dtype=DTYPES[dtype], device=DEVICE)
    if way in COMPILED:  # for each size anew
        _step(WAYS[way], problem)
    before = start(DEVICE)
    started = CLOCK()
    loss = _step(WAYS[way], problem)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    seconds = CLOCK() - started
    extra = peak(DEVICE) - before - problem.head_bytes
    return Measured(seconds, extra / problem.logit_bytes, loss)


def _step(way: Way, problem: Problem) -> float:
    problem.hidden.grad = problem.head.weight.grad = None
    return float(way(problem))


if __name__ == "__main__":
    main()
