"""How long work tells the outside how far it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, final


class Progress(Protocol):
    """Something that shows how far a piece of work is: a training, or a stage that takes long."""

    def begin(self, title: str, total_steps: int, done_steps: int) -> None:
        """It begins (or goes on)."""
        ...

    def advance(self, steps_done: int) -> None:
        """Called after every step; must be quick."""
        ...

    def note(self, text: str) -> None:
        """A line worth reading, for example a validation result."""
        ...

    def end(self) -> None:
        """It is over."""
        ...


@final
class Silent:
    """A `Progress` that shows nothing."""

    def begin(self, title: str, total_steps: int, done_steps: int) -> None:
        """Nothing."""

    def advance(self, steps_done: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@contextmanager
def showing(
    progress: Progress, title: str, total_steps: int, done_steps: int = 0
) -> Iterator[Callable[[int], None]]:
    """Show the work inside, which tells what it is given how many steps are done.

    It is over however the work ends.
    """
    progress.begin(title, total_steps, done_steps)
    try:
        yield progress.advance
    finally:
        progress.end()
