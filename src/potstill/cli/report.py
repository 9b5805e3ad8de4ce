"""`potstill report`: write the pages of a run again."""

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.screen import say


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, for example runs/demo.")],
) -> None:
    """Write report.html and report.md from what is in a run folder."""
    from potstill.report import write_report

    files = write_report(run)
    say(f"{files.html}\n{files.markdown}")
