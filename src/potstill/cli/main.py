"""`potstill`: the commands put together, and what happens when one fails."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from potstill import __version__
from potstill.cli import (
    compare,
    compress,
    demo,
    doctor,
    export,
    generate,
    init,
    label,
    measure,
    plan,
    recipes,
    report,
    run,
    schema,
    search,
    try_run,
)
from potstill.cli.screen import fail
from potstill.errors import Interrupted, PotstillError, StorageError

app = typer.Typer(
    name="potstill",
    help="Teach a small model to answer like a big one, and measure what was gained and lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "init": init.init,
    "plan": plan.plan,
    "run": run.run,
    "search": search.search,
    "label": label.label,
    "generate": generate.generate,
    "export": export.export,
    "measure": measure.measure,
    "compress": compress.compress,
    "report": report.report,
    "compare": compare.compare,
    "try": try_run.try_run,
    "recipes": recipes.recipes,
    "schema": schema.schema,
    "doctor": doctor.doctor,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"potstill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error came from (a traceback).")
    ] = False,
) -> None:
    """Teach a small model to answer like a big one, and measure what was gained and lost."""
    _ = version, debug


def main() -> None:
    """The entry point: foreseen failures become one sentence and an exit code."""
    _settle_environment()
    try:
        app()
    except PotstillError as error:
        if "--debug" in sys.argv:
            raise
        fail(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        fail("Stopped. What was finished is kept; run the same command again to go on.")
        sys.exit(Interrupted.exit_code)
    except OSError as error:
        if "--debug" in sys.argv or error.filename is None:
            raise
        fail(
            str(StorageError(f"{error.filename}: {error.strerror}. Check the path and its space."))
        )
        sys.exit(1)


def _settle_environment() -> None:
    """No network call that nobody asked for: telemetry off, unless the user has set it."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Said by torch of how torchao, which Transformers imports, registers itself; for its authors.
    logging.getLogger("torch.utils._pytree").addFilter(lambda said: "Enum" not in said.msg)
