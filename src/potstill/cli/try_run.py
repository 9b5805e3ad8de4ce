"""`potstill try`: a page on this machine where teacher and students answer side by side."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.options import Trust
from potstill.cli.screen import say


def try_run(
    run: Annotated[Path, typer.Argument(help="A finished run folder, for example runs/demo.")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Of the page; 0 takes a free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    exported: Annotated[
        bool,
        typer.Option("--exported", help="Ask exported files alone, without the run's data."),
    ] = False,
    trust: Trust = False,
) -> None:
    """Open a page where you give a sample and see teacher and students answer."""
    from potstill import api

    server = api.try_run(run, port=port, exported=exported, trust=trust, note=say)
    say(f"{server.address} is open on this machine; Ctrl-C stops it.")
    if browser:
        webbrowser.open(server.address)
    try:
        server.serve()
    except KeyboardInterrupt:
        say("Stopped.")
    finally:
        server.close()
