"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[
    str, typer.Argument(help="A shipped recipe by name (`potstill recipes`), or a YAML file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Values to change, for example distill.epochs=5.", metavar="[KEY=VALUE]..."
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder. Default: runs/NAME.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Let code that the recipe names (`python:`) run.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")]
