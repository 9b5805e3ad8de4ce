"""`potstill recipes`: what ships."""

from typing import Annotated

import typer

from potstill.cli.screen import say, show_table


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe instead.")] = None,
    models: Annotated[
        bool, typer.Option("--models", help="List the builtin models instead.")
    ] = False,
    terms: Annotated[bool, typer.Option("--terms", help="List the terms instead.")] = False,
) -> None:
    """List the recipes that ship, or print one of them."""
    from potstill.recipe import load, shipped

    if models:
        from potstill.models import builtin_names
        from potstill.models.detection import detector_names

        say("\n".join((*builtin_names(), *(f"{n} (detection)" for n in detector_names()))))
    elif terms:
        from potstill.losses import TERMS

        rows = [["term", "what it is"]]
        rows += [[k, (v.__doc__ or "").strip().splitlines()[0]] for k, v in TERMS.items()]
        show_table(rows)
    elif name is not None:
        load(name)
        say(shipped()[name].rstrip())
    else:
        rows = [["recipe", "description"]]
        rows += [[known, load(known).description] for known in shipped()]
        show_table(rows)
        say("Run one with `potstill run NAME`; print it with `potstill recipes NAME`.")
