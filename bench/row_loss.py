"""Row-wise losses from hidden states and heads: Potstill's chunks beside eager PyTorch, TRL, Liger.

Times are taken in turns (A B C A B C …) in one process, the ratio is the median over turns; on one
thread they are seconds of the processor, which other work on the machine changes little. Peak
memory is taken in a process of its own, beyond inputs, weights and the weight's gradient, in units
of N, one tensor of logits. `python bench/row_loss.py [--quick] [--turns 5] [--width 512]`.
"""

import argparse
import ctypes
import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from _row_loss_ways import TERMS, WAYS, CannotRun, Problem, Way, make_problem

from potstill.runtime.environment import processor_name

SHAPES = ((4096, 32_000), (2048, 151_936))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time
ALIKE = {"fp32": 1e-4, "bf16": 3e-2}  # relative, of the loss: the rivals round in bfloat16


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    if options.memory:
        way, term, dtype = options.memory
        rows, classes = SHAPES[options.shape]
        print(_peak(way, term, rows, classes, dtype, options))
        return
    _say_where(options)
    print("| rows × classes | type | loss | way | seconds | Potstill / way | peak, N | remark |")
    print("|---|---|---|---|---|---|---|---|")
    for shape in range(1 if options.quick else len(SHAPES)):
        for dtype in DTYPES:
            for term in options.terms or TERMS:
                _compare(shape, term, dtype, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one shape, two turns")
    parser.add_argument("--turns", type=int, default=0)
    parser.add_argument("--width", type=int, default=512, help="of the hidden states, both sides")
    parser.add_argument("--terms", nargs="*", choices=list(TERMS))
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.turns = options.turns or (2 if options.quick else 5)
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


def _compare(shape: int, term: str, dtype: str, options: argparse.Namespace) -> None:
    """Rows of the table for one loss at one size."""
    rows, classes = SHAPES[shape]
    problem = make_problem(
        term, rows, classes, width=options.width, dtype=DTYPES[dtype], device=DEVICE
    )
    start = f"| {rows} × {classes:,} | {dtype} | {term} "
    losses: dict[str, float] = {}
    for name in options.ways:
        try:
            losses[name] = _step(WAYS[name], problem)  # the warm-up
        except CannotRun as reason:
            print(f"{start}| {name} | – | – | – | {reason} |", flush=True)
        except Exception as error:  # noqa: BLE001 - a rival's failure is a row of the table
            print(f"{start}| {name} | – | – | – | {type(error).__name__}: {_first_line(error)} |")
    times = {name: [_timed(WAYS[name], problem)] for name in losses}
    for turn in range(1, options.turns):
        for name in list(losses) if turn % 2 else reversed(list(losses)):
            times[name].append(_timed(WAYS[name], problem))
    del problem
    for name, took in times.items():
        ratio = statistics.median(o / t for o, t in zip(times["Potstill"], took, strict=True))
        peak = _peak_elsewhere(name, term, dtype, shape, options)
        alike = abs(losses[name] / losses["Potstill"] - 1)
        remark = "" if alike < ALIKE[dtype] else f"loss differs by {alike:.0%}"
        seconds = statistics.median(took)
        print(f"{start}| {name} | {seconds:.2f} | {ratio:.2f} | {peak} | {remark} |", flush=True)


def _step(way: Way, problem: Problem) -> float:
    problem.hidden.grad = problem.head.weight.grad = None
    return float(way(problem))


def _timed(way: Way, problem: Problem) -> float:
    gc.collect()
    started = CLOCK()
    _step(way, problem)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return CLOCK() - started


def _peak_elsewhere(
    name: str, term: str, dtype: str, shape: int, options: argparse.Namespace
) -> str:
    command = [sys.executable, __file__, "--memory", name, term, dtype, "--shape", str(shape)]
    command += ["--width", str(options.width)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[-1] if done.returncode == 0 else "failed"


def _peak(
    way: str, term: str, rows: int, classes: int, dtype: str, options: argparse.Namespace
) -> str:
    """Peak memory of one step beyond inputs and the weight's gradient, in N."""
    # One small step first: libraries and compilers take their memory when they are first used.
    small = make_problem(term, 64, 512, width=32, dtype=DTYPES[dtype], device=DEVICE)
    _step(WAYS[way], small)
    problem = make_problem(
        term, rows, classes, width=options.width, dtype=DTYPES[dtype], device=DEVICE
    )
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _step(WAYS[way], problem)
        extra = torch.cuda.max_memory_allocated() - before
    else:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
        before = _resident("VmRSS")
        _step(WAYS[way], problem)
        extra = _resident("VmHWM") - before
    return f"{(extra - problem.head_bytes) / problem.logit_bytes:.2f}"


def _resident(line: str) -> int:
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith(line):
            return int(text.split()[1]) * 1024
    raise CannotRun("this system does not say how much memory a process has")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:100] if str(error).strip() else ""


if __name__ == "__main__":
    main()
