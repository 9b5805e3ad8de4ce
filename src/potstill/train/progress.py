"""How the loop tells the outside what it is doing."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

Watch: TypeAlias = Callable[[int, float], None]
"""Told of each validation's epoch and primary metric; what it raises ends the training."""


class Progress(Protocol):
    """Something that shows how far a training is."""

    def begin(self, title: str, total_steps: int, done_steps: int) -> None:
        """A training begins (or goes on)."""
        ...

    def advance(self, steps_done: int) -> None:
        """Called after every step; must be quick."""
        ...

    def note(self, text: str) -> None:
        """A line worth reading, for example a validation result."""
        ...

    def end(self) -> None:
        """The training is over."""
        ...
