"""Commands, arguments and options are a contract: scripts of others break when one goes away."""

import typer

from potstill.cli.main import app

FROZEN = {
    "compare": ["runs", "--out"],
    "demo": ["--out", "--seeds", "--json"],
    "doctor": [],
    "generate": [
        "prompts",
        "--out",
        "--url",
        "--name",
        "--key",
        "--prompt",
        "--answer",
        "--plain",
        "--system",
        "--max-tokens",
        "--temperature",
        "--samples",
        "--seed",
        "--limit",
        "--concurrency",
        "--rate",
        "--timeout",
        "--retries",
        "--json",
    ],
    "export": ["run", "--role", "--seed", "--format", "--out", "--check", "--trust", "--json"],
    "compress": ["run", "overrides", "--to", "--ratio", "--ways", "--out", "--trust", "--json"],
    "init": ["path", "--force"],
    "label": [
        "recipe",
        "overrides",
        "--out",
        "--views",
        "--codec",
        "--layers",
        "--run",
        "--inspect",
        "--verify",
        "--trust",
        "--json",
    ],
    "measure": [
        "models",
        "--batch",
        "--threads",
        "--runtime",
        "--seconds",
        "--starts",
        "--energy",
        "--watts",
        "--inputs",
        "--name",
        "--save-profile",
        "--device-profile",
        "--trust",
        "--json",
    ],
    "plan": ["recipe", "overrides", "--trust", "--json"],
    "recipes": ["name", "--models", "--terms"],
    "report": [
        "run",
        "--predictions-per-day",
        "--price-per-kwh",
        "--currency",
        "--carbon",
        "--watts",
    ],
    "run": ["recipe", "overrides", "--out", "--trust", "--json", "--verbose"],
    "schema": [],
    "search": [
        "recipe",
        "overrides",
        "--latency",
        "--size",
        "--params",
        "--flops",
        "--memory",
        "--runtime",
        "--threads",
        "--trials",
        "--minutes",
        "--epochs",
        "--jobs",
        "--family",
        "--seed",
        "--storage",
        "--out",
        "--resume",
        "--join",
        "--trust",
        "--json",
    ],
    "try": ["run", "--port", "--browser", "--exported", "--trust"],
}


def options_by_command() -> dict[str, list[str]]:
    commands = typer.main.get_command(app).commands
    return {name: [p.opts[0] for p in c.params] for name, c in commands.items()}


def test_no_command_or_option_has_gone_away_or_moved() -> None:
    present = options_by_command()

    for name, options in FROZEN.items():
        assert [o for o in present[name] if o in options] == options, name


def test_every_command_and_option_is_described() -> None:
    for name, command in typer.main.get_command(app).commands.items():
        assert command.help, name
        for parameter in command.params:
            assert parameter.help, (name, parameter.opts)
