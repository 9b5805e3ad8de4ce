"""`potstill search`: the right student for a target."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.options import AsJson, Overrides, RecipeArgument, Trust
from potstill.cli.screen import Screen, say, show_table
from potstill.errors import StorageError

if TYPE_CHECKING:
    from potstill.pipeline.concluding import Found


def search(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    latency: Annotated[
        str | None, typer.Option("--latency", help="At most so long a call, for example 5ms.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="At most so large a file, for example 1MB.")
    ] = None,
    params: Annotated[
        str | None, typer.Option("--params", help="At most so many parameters, for example 200k.")
    ] = None,
    flops: Annotated[
        str | None, typer.Option("--flops", help="At most so many FLOPs a sample, for example 10M.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="At most so much working memory, e.g. 10MB.")
    ] = None,
    runtime: Annotated[
        str, typer.Option("--runtime", help="What it runs on: onnxruntime, executorch, torch.")
    ] = "onnxruntime",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of the runtime.")] = 1,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Students to train.")] = 30,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="No trial begins later than that.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Of each trial. Default: the recipe's.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that train trials.")] = 1,
    family: Annotated[
        list[str] | None,
        typer.Option("--family", help="Look in this family only; can be given several times."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn and trained.")] = 0,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="An Optuna storage URL. Default: SQLite in the run folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder. Default: runs/NAME-search.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Refuse to begin a new search; only go on with one.")
    ] = False,
    join: Annotated[
        bool, typer.Option("--join", help="Take part in a search that another process ends.")
    ] = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Find the student that is best at a given cost: family, depth, width, resolution, objective.

    The teacher is asked once; every trial reads its answers. Run the same command again to go on
    after a stop, or with more --trials. The front, the recommended recipe and a page are written.
    """
    from potstill.recipe import load

    read = load(recipe, overrides or [])
    folder = out or Path("runs") / f"{read.name}-search"
    if resume and not (folder / "search").is_dir():
        raise StorageError(
            f"There is no search in {folder} to go on with. Leave --resume out to begin one, or "
            "name its folder with --out."
        )
    from potstill import api
    from potstill.pipeline.search_settings import Settings

    limits = {
        "latency_ms": latency,
        "bytes": size,
        "parameters": params,
        "flops": flops,
        "memory": memory,
    }
    found = api.search_recipe(
        read,
        targets=limits,
        settings=Settings(
            trials=trials,
            minutes=minutes,
            runtime=runtime,
            threads=threads,
            epochs=epochs,
            storage=storage,
            seed=seed,
        ),
        families=family or (),
        jobs=jobs,
        join=join,
        out=folder,
        trust=trust,
        progress=Screen(quiet=as_json),
    )
    if found is None:
        return
    if as_json:
        typer.echo(json.dumps(found.content))
    else:
        _show(found)


def _show(found: "Found") -> None:
    show_table(found.table())
    say(f"recommended: trial {found.recommended.trial.number}, {found.recommended.why}")
    say(found.summary())
    warnings = found.content["warnings"]
    assert isinstance(warnings, list), "as the search wrote it"
    for text in warnings:
        say(f"warning: {text}")
    say(f"next: potstill run {found.recipe}")
    say(f"report: {found.report}")
