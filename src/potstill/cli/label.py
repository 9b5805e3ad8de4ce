"""`potstill label`: a teacher's answers into a store, and what a store holds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.options import AsJson, Overrides, Trust
from potstill.cli.screen import Screen, amount, say, show_table
from potstill.errors import RecipeError, StoreError

if TYPE_CHECKING:
    from potstill.recipe import Recipe
    from potstill.store.inspection import Figures


def label(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A shipped recipe by name (`potstill recipes`), or a YAML file."),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="STORE",
            help="A folder or an fsspec address (s3://…). Default: `store` in the run folder.",
        ),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option("--views", min=1, help="With augmentation: how many views of each sample."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="How logits are written (dense, topk, …). Default: exact."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            help="Layers of the teacher whose outputs are stored too, with commas between them. "
            "Default: those that the objective needs.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="The run folder with the trained teacher. Default: runs/NAME."),
    ] = None,
    inspect: Annotated[
        str | None,
        typer.Option("--inspect", metavar="STORE", help="Say what a store holds; no recipe then."),
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option("--verify", metavar="STORE", help="Read every byte of a store and check it."),
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Write a teacher's answers to a store, once, for every student to learn from.

    Run the same command again to go on after a stop, or when there are new samples.
    """
    if inspect is not None or verify is not None:
        _look(inspect or verify or "", check=verify is not None, as_json=as_json)
        return
    if recipe is None:
        raise RecipeError(
            "`potstill label` needs a recipe, or --inspect STORE, or --verify STORE; "
            "`potstill recipes` lists the shipped ones."
        )
    from potstill.recipe import load

    read = _with_options(load(recipe, overrides or []), views=views, codec=codec)
    from potstill import api

    if read.teacher.model is not None and read.teacher.model.source == "api":
        path, asked = api.ask_recipe(read, run=run, progress=Screen(quiet=as_json))
        if as_json:
            typer.echo(json.dumps({"path": str(path), "asked": asked}))
        else:
            say(f"{path}: all is answered, {_count(asked, 'text')} asked about now")
        return
    chosen = None if layers is None else [name for name in layers.split(",") if name]
    store = api.label_recipe(
        read, out=out, layers=chosen, run=run, trust=trust, progress=Screen(quiet=as_json)
    )
    _look(store.name, check=False, as_json=as_json)


def _with_options(recipe: "Recipe", *, views: int | None, codec: str | None) -> "Recipe":
    from potstill.recipe import CodecSpec

    changes: dict[str, object] = {}
    if views is not None:
        changes["views"] = views
    if codec is not None:
        changes["codec"] = CodecSpec(codec=codec)
    return recipe.model_copy(update={"store": recipe.store.model_copy(update=changes)})


def _look(where: str, *, check: bool, as_json: bool) -> None:
    """Print what a store holds, and whether it is sound if that is asked."""
    from potstill.store import verify
    from potstill.store.inspection import inspect

    found = inspect(where)
    damages = verify(where) if check else []
    if as_json:
        extra = {"damages": [d.sentence for d in damages]} if check else {}
        typer.echo(json.dumps({**found.to_json(), **extra}))
    else:
        _show(found)
    if damages:
        lines = "\n".join(f"  - {damage.shard}: {damage.sentence}" for damage in damages)
        raise StoreError(
            f"Damaged of {found.where}: {len(damages)} of {_count(found.shards, 'shard')}. Delete "
            f"what is named and run `potstill label` again: it writes what is missing.\n{lines}"
        )
    if check and not as_json:
        say(f"sound: every byte of {_count(found.shards, 'shard')} fits its checksum.")


def _show(found: "Figures") -> None:
    say(f"{found.where}: {found.records:,} answers about {found.samples:,} samples")
    rows = [["signal", "codec", "row", "bytes a row", "error bound"]]
    rows += [
        [
            s.name,
            ", ".join([s.codec, *(f"{name}={value}" for name, value in s.options.items())]),
            "–" if s.row_shape is None else "×".join(map(str, s.row_shape)),
            amount(s.bytes_per_row, "B"),
            s.error_bound,
        ]
        for s in found.signals
    ]
    show_table(rows)
    show_table([["view", "samples"], *([str(v), f"{n:,}"] for v, n in found.views.items())])
    kind, augment = found.key["kind"] or "no logits", found.key["augment"] or "none"
    say(f"teacher {found.key['teacher'][:12]}…: {kind}, {found.key['precision']}")
    say(f"augmentation: {augment}")
    say(f"{amount(found.bytes, 'B')} in {_count(found.shards, 'shard')}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
