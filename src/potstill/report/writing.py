"""Writes the report files into a run folder, each under a temporary name that is then renamed."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from potstill.errors import StorageError
from potstill.report.folder import read_folder
from potstill.report.markdown import render_markdown
from potstill.report.page import render_page
from potstill.report.year import assumptions_of


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """What was written. `figures` are files beside the page; the charts of the page are in it."""

    html: Path
    markdown: Path
    figures: tuple[Path, ...] = ()


def write_report(run_folder: Path, *, year: Mapping[str, object] | None = None) -> ReportFiles:
    """Write `report.html` and `report.md` into a run folder, from what lies in it.

    Figures `figures/*.png` that are already there are named in the Markdown. A run that has not
    finished gives a report of what there is.

    Raises:
        StorageError: not a run folder, a broken file, a newer format, or nothing can be written.
        RecipeError: an assumption about the year is out of range.
    """
    run = read_folder(Path(run_folder))
    figures = tuple(sorted((run.path / "figures").glob("*.png")))
    html, markdown = run.path / "report.html", run.path / "report.md"
    said = assumptions_of(run).with_changes(year or {})
    write_text(html, render_page(run, year=said))
    write_text(markdown, render_markdown(run, figures=figures, year=said))
    return ReportFiles(html=html, markdown=markdown, figures=figures)


def write_text(path: Path, content: str) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        StorageError: the folder cannot be written to, or the disk is full.
    """
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            name = file.name
            file.write(content)
        os.chmod(name, 0o644)  # noqa: PTH101
        Path(name).replace(path)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        raise StorageError(
            f"`{path}` cannot be written ({error.strerror or error}). "
            "Check the permissions and the free space of the folder, then run this again."
        ) from error
