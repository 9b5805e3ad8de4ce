"""Watching a run: a loss that is not finite, and the user's wish to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

import torch
from torch import Tensor, nn


@final
class FiniteGuard:
    """Remembers on the device the first step whose loss was inf or NaN.

    `see` costs no synchronisation; `first_bad` does, and is asked now and then.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def see(self, loss: Tensor, step: int) -> None:
        """Note a step's loss."""
        bad = ~torch.isfinite(loss.detach()) & (self._first < 0)
        self._first = torch.where(bad, step, self._first)

    def first_bad(self) -> int | None:
        """The first bad step so far, or `None`."""
        step = int(self._first)
        return None if step < 0 else step


def has_finite_weights(module: nn.Module) -> bool:
    """Whether no parameter holds inf or NaN; waits for the device once."""
    each = [torch.isfinite(p.detach()).all() for p in module.parameters()]
    return not each or bool(torch.stack(each).all())


@final
class StopRequest:
    """Whether the user has asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        """Signal handler: the loop stops at the next step; a second Ctrl-C stops at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn Ctrl-C and SIGTERM into a request while a block runs; the old handlers come back."""
    request = StopRequest()
    try:
        old = {s: signal.signal(s, request.ask) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals cannot be listened to, and none arrive
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
