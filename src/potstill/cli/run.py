"""`potstill run`: do what a recipe says."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.cache import speed_cache
from potstill.cli.options import AsJson, Out, Overrides, RecipeArgument, Trust
from potstill.cli.screen import Screen, say, show_table

if TYPE_CHECKING:
    from potstill.pipeline import Run


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    out: Out = None,
    trust: Trust = False,
    as_json: AsJson = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also print the result of every validation.")
    ] = False,
) -> None:
    """Train the teacher and the student with and without it, measure, export, report.

    Run the same command again to go on after a stop; stages that are done are not repeated.
    """
    execute(recipe, overrides or [], out=out, trust=trust, as_json=as_json, verbose=verbose)


def execute(
    recipe: str,
    overrides: list[str],
    *,
    out: Path | None,
    trust: bool = False,
    as_json: bool = False,
    verbose: bool = False,
) -> None:
    """Load, run, and print what came of it."""
    from potstill.recipe import load

    read = load(recipe, overrides)  # checked before the libraries are loaded, which takes seconds
    from potstill import api

    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    done = api.run(
        read,
        out=out,
        trust=trust,
        progress=Screen(quiet=as_json, verbose=verbose),
        command=shlex.join(words),
        cache=speed_cache(),
    )
    if as_json:
        typer.echo(json.dumps(done.results))
    else:
        _show(done)


def _show(done: "Run") -> None:
    show_table(done.table())
    say(str(done.verdict["sentence"]))
    say(str(done.verdict["reason"]))
    warnings = done.results["warnings"]
    assert isinstance(warnings, list), "as the pipeline wrote it"
    for text in warnings:
        say(f"warning: {text}")
    say(f"helped: {done.verdict['helped']}")
    say(f"report: {done.report}")
