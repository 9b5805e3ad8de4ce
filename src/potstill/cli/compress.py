"""`potstill compress`: a run's models to one size, all ways, with and without the teacher."""

import json
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.options import AsJson, Out, Overrides, Trust
from potstill.cli.screen import Screen, say, show_table


def compress(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_RECIPE",
            help="The folder of a finished run, or a recipe, which is run first.",
        ),
    ],
    overrides: Overrides = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="SIZE",
            help="Of the file, such as 250kB. Default: an eighth of the student's.",
        ),
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option("--ratio", help="The same, as how many times smaller than the teacher's."),
    ] = None,
    ways: Annotated[
        str | None,
        typer.Option(
            "--ways",
            help="Which are compared, with commas between them, such as "
            "prune,distil+prune+quantise. Default: six; prune+quantise, distil+sparse and "
            "distil+2:4 are not among them.",
        ),
    ] = None,
    out: Out = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Prune and quantise a run's models to one size, and compare all ways to it.

    Run the same command again to go on after a stop; stages that are done are not repeated.
    """
    asked = {"to": to, "ratio": ratio, "ways": ways}
    changes = [f"compress.{name}={value}" for name, value in asked.items() if value is not None]
    from potstill import api

    record = api.compress_run(
        run,
        overrides=[*(overrides or []), *changes],
        out=out,
        trust=trust,
        progress=Screen(quiet=as_json),
    )
    if as_json:
        typer.echo(json.dumps(record))
        return
    from potstill.report import squeezed_of

    shown = squeezed_of(record)
    assert shown is not None, "there is a record"
    say(shown.intro)
    show_table([shown.columns, *shown.rows])
    for note in shown.notes:
        say(note)
    place = out or (Path(run) if Path(run).is_dir() else Path("runs") / str(record["name"]))
    say(f"report: {place / 'report.html'}")
