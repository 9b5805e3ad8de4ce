"""`potstill plan`: a dry run."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from potstill.cli.options import AsJson, Overrides, RecipeArgument, Trust
from potstill.cli.screen import amount, duration, say, show_table

if TYPE_CHECKING:
    from potstill.pipeline.planning import Plan


def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Check a recipe and say what it would cost, without training anything."""
    from potstill.recipe import load

    read = load(recipe, overrides or [])
    from potstill import api

    found = api.plan(read, trust=trust)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        _show(found)


def _show(found: "Plan") -> None:
    samples = ", ".join(f"{count:,} {part}" for part, count in found.samples.items() if count)
    say(f"{found.name}: {samples} samples, on {found.device}")
    say(f"objective: {found.objective}")
    for line in found.pairing:
        say(f"  {line}")
    rows = [["model", "what", "parameters", "weights", "FLOPs a sample"]]
    rows += [
        [m.role, m.description, amount(m.parameters), amount(m.bytes, "B"), amount(m.flops)]
        for m in found.models
    ]
    show_table(rows)
    rows = [["training", "runs", "steps each", "ms a step", "time", "memory"]]
    rows += [
        [
            t.role,
            str(t.runs),
            f"{t.steps:,}",
            f"{t.step_ms:.2f}",
            duration(t.seconds),
            amount(t.memory, "B"),
        ]
        for t in found.trainings
    ]
    show_table(rows)
    size = f"about {amount(found.store.bytes, 'B')} in {found.store.where or 'the run folder'}; "
    say(f"store: {f'yes, {size}' if found.store.used else 'no, '}{found.store.reason}")
    for note in found.notes:
        say(f"note: {note}")
    say(f"In all about {duration(found.seconds)} on this machine, plus validation and export.")
