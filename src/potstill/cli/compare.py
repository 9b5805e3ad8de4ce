"""`potstill compare`: several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.screen import say, show_table


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.", metavar="RUN...")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Also write comparison.html and comparison.md here."),
    ] = None,
) -> None:
    """Show several runs side by side."""
    from potstill.report import compare as side_by_side

    found = side_by_side(runs)
    show_table([found.columns, *found.rows])
    say(found.summary)
    for note in found.notes:
        say(f"note: {note}")
    if out is not None:
        say("\n".join(str(path) for path in found.save(out)))
