"""Commands on the pages are parsed by the real command line, their recipes and changes read."""

import re
import tomllib
from pathlib import Path

import pytest
import typer

from potstill.cli.init import TEMPLATE
from potstill.cli.main import app
from potstill.recipe import load, shipped

from .written import NAMES, ROOT, blocks, commands

POTSTILL = typer.main.get_command(app)
_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)
_PLACEHOLDER = re.compile(r"[A-Z_]+")


def potstill_commands(page: str) -> list[list[str]]:
    return [words[1:] for words in commands(page) if words[0] == "potstill"]


@pytest.mark.parametrize("page", [name for name in NAMES if potstill_commands(name)])
def test_commands_and_their_recipes_are_right(page: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in potstill_commands(page):
        check(words)


def check(words: list[str]) -> None:
    """Parses a command; one alone is a name in a sentence, capitals stand for what is given."""
    if words[0].startswith("-") or _PLACEHOLDER.fullmatch(words[0]):
        return
    assert words[0] in POTSTILL.commands, words
    if len(words) == 1 or any(_PLACEHOLDER.fullmatch(word) for word in words):
        return
    command = POTSTILL.commands[words[0]]
    given = command.make_context(words[0], words[1:], parent=typer.Context(POTSTILL)).params
    named = given.get("recipe") or given.get("run")
    if isinstance(named, str) and (named in shipped() or "recipe" in given):
        load(present(named), given.get("overrides") or [])


def present(recipe: str) -> str:
    """A shipped recipe as it is; a file of the reader's own is what `potstill init` writes."""
    if recipe.endswith(".yaml"):
        Path(recipe).parent.mkdir(parents=True, exist_ok=True)
        Path(recipe).write_text(TEMPLATE.format(name="mine", file=recipe), encoding="utf-8")
    return recipe


def test_other_commands_name_what_is_there() -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    wrong = []
    for page in [*NAMES, "CONTRIBUTING.md"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|\$ )make ([a-z]+)", text):
            wrong += [f"{page}: make {target}"] if target not in targets else []
        for named in re.findall(r"potstill\[([a-z,]+)\]", text):
            wrong += [f"{page}: {e}" for e in named.split(",") if e not in extras]
        for file in re.findall(r"(?:python|pytest) ((?:bench|tests|examples)/\S+?\.py)", text):
            wrong += [f"{page}: {file}"] if not (ROOT / file).is_file() else []

    assert wrong == []


def test_every_console_block_shows_a_command() -> None:
    silent = [b for page in NAMES for b in blocks(page, "console") if "$ " not in b.text]

    assert silent == []
    assert sum(len(potstill_commands(page)) for page in NAMES) > 40


@pytest.mark.parametrize(
    "line", ["run digits distill.epoch=3", "run digits --outt x", "plann digits", "run digit"]
)
def test_a_wrong_command_is_noticed(line: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Exception, match=r"epoch|outt|plann|digit"):
        check(line.split())
