"""Peak memory of a piece of work in a process of its own."""

import ctypes
import gc
from pathlib import Path

import torch


class CannotRun(Exception):
    """Why a way is not in the table."""


def start(device: str) -> int:
    """Reset the high-water mark; the bytes in use now."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def peak(device: str) -> int:
    """The most bytes in use at once since `start`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")


def _resident(line: str) -> int:
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith(line):
            return int(text.split()[1]) * 1024
    raise CannotRun("this system does not say how much memory a process has")
