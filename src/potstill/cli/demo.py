"""`potstill demo`: the recipe `digits`, on data that come with scikit-learn."""

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.options import AsJson
from potstill.cli.run import execute


def demo(
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("runs/demo"),
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="How many seeds.")] = None,
    as_json: AsJson = False,
) -> None:
    """Distil a small digit recogniser, in about a minute: no downloads, no settings."""
    overrides = ["name=demo", *([] if seeds is None else [f"seeds={seeds}"])]
    execute("digits", overrides, out=out, as_json=as_json)
