"""`potstill schema`: the JSON Schema of recipes."""

import json

import typer


def schema() -> None:
    """Print the JSON Schema of recipes, with which editors complete and check them."""
    from potstill.recipe import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
