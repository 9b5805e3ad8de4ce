"""`potstill export`: a run's student in the forms that devices take; is a file sound?"""

import json
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.options import AsJson, Trust
from potstill.cli.screen import say, show_table
from potstill.errors import RecipeError


def export(
    run: Annotated[Path | None, typer.Argument(help="A run folder, for example runs/demo.")] = None,
    role: Annotated[
        str, typer.Option("--role", help="Whose student: distilled, scratch, teacher.")
    ] = "distilled",
    seed: Annotated[
        int | None, typer.Option("--seed", help="Which one. Default: the one that the run ships.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="onnx, onnx-fp16, onnx-int8, executorch, torch, safetensors; give it several "
            "times. Default: the recipe's.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder. Default: `export` in the run folder.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Say whether an exported file is unaltered."),
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Write a student in the forms that it is shipped in, each compared with the student.

    A file whose answers are further from the student's than its bound is removed.
    """
    from potstill import api

    if check is not None:
        found = api.check_export(check)
        if as_json:
            typer.echo(json.dumps(found))
        else:
            say(f"{check}: sound ({found['format']}, {found['precision']}, seed {found['seed']})")
        return
    if run is None:
        raise RecipeError("`potstill export` needs a run folder, or --check FILE.")
    folder = api.export_run(run, formats, role=role, seed=seed, out=out, trust=trust)
    from potstill.export.manifest import artefacts_in

    listed = artefacts_in(folder, role)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "artefacts": listed}))
        return
    rows = [["file", "precision", "bytes", "same decision"]]
    for one in listed:
        agreed = one["parity"].get("agreement")
        shown = f"{agreed:.2%}" if isinstance(agreed, float) else "–"
        rows.append([one["file"], one["precision"], f"{one['bytes']:,}", shown])
    show_table(rows)
    say(f"{folder}: README.md says how to use them")
