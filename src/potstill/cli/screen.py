"""What people see: progress bars on a terminal, plain lines elsewhere, tables, errors."""

import sys
import time
from collections.abc import Sequence
from typing import Literal, final

from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_LINE_SECONDS = 10.0  # between two lines about a long training, where there is no terminal
_REFRESH_SECONDS = 0.1
_WIDEST = 400  # columns of a table that is written to a file


def fail(text: str) -> None:
    """Print an error to the error stream."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold red]error:[/] {_plain(text)}"
    )


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def show_table(rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table; the first row is its heading. Where there is no terminal, as wide as it is."""
    head, *body = rows
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for number, name in enumerate(head):
        side: Literal["left", "right"] = "left" if number == 0 else "right"
        table.add_column(_plain(name), justify=side, overflow="fold")
    for row in body:
        table.add_row(*(_plain(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _natural_width(console, table))
    console.print(table)


def _natural_width(console: Console, table: Table) -> int:
    wide = console.options.update(max_width=_WIDEST)
    return Measurement.get(console, wide, table).maximum


def say(text: str) -> None:
    """Print a line."""
    Console(highlight=False, soft_wrap=True).print(_plain(text))


@final
class Screen:
    """Shows a run: bars with the time left on a terminal, a line now and then elsewhere.

    Args:
        quiet: show nothing (for `--json`).
        verbose: also show the result of every validation.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet, self._verbose = quiet, verbose
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title, self._total, self._start, self._first = "", 0, 0, 1
        self._begun = self._shown = 0.0

    def begin(self, title: str, total_steps: int, done_steps: int) -> None:
        """A training begins."""
        self._title, self._total = title, total_steps
        self._start, self._first = done_steps, done_steps + 1
        self._begun = self._shown = time.monotonic()
        if self._quiet:
            return
        if not self._console.is_terminal:
            self._console.print(f"{title}: {total_steps} steps" + (
                f", going on at {done_steps}" if done_steps else ""))  # fmt: skip
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task(title, total=total_steps, completed=done_steps)
        self._bar.start()

    def advance(self, steps_done: int) -> None:
        """A step is done."""
        now = time.monotonic()
        if steps_done == self._first < self._total:  # it loads and compiles: no pace to go by
            self._begun, self._start = now, steps_done
            return
        wait = _REFRESH_SECONDS if self._bar is not None else _LINE_SECONDS
        if self._quiet or now - self._shown < wait:
            return
        self._shown = now
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=steps_done)
            return
        pace = (now - self._begun) / max(steps_done - self._start, 1)
        left = pace * (self._total - steps_done)
        share = steps_done / self._total
        self._console.print(f"{self._title}: {share:.0%}, about {duration(left)} left")

    def note(self, text: str) -> None:
        """Something worth reading."""
        if self._quiet:
            return
        if text.startswith("warning:"):
            self._console.print(f"[bold yellow]{_plain(text)}[/]")
        elif self._verbose or " epoch " not in text:
            self._console.print(_plain(text))

    def end(self) -> None:
        """The training is over."""
        if self._bar is not None and self._task is not None:
            if sys.exc_info()[0] is None:
                self._bar.update(self._task, completed=self._total)
            self._bar.stop()
            self._bar = self._task = None


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def amount(number: float | None, unit: str = "") -> str:
    """`1.2 M`, `640`, with a unit; a dash for what is not known."""
    if number is None:
        return "–"
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {letter}{unit}"
    return f"{number:.3g} {unit}".strip()
