"""The reference names every public part, and the guide no figure that was not measured."""

import importlib
import re
from pathlib import Path

import pytest

import potstill

from .written import NAMES, ROOT

REFERENCE = ROOT / "docs" / "reference"
INNER = {"build", "cli", "functional", "recipes", "runtime"}  # for those who change the code
_IDENTIFIER = re.compile(r"^::: (\S+)$", re.MULTILINE)
_NAME = re.compile(r"`(potstill(?:\.[a-zA-Z_]\w*)+)")
_DECIMAL = re.compile(r"(?<![\d.])\d+\.\d+(?![\d.]*\d)")


def identifiers() -> list[str]:
    pages = sorted(REFERENCE.glob("*.md"))
    return [name for page in pages for name in _IDENTIFIER.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize("name", identifiers())
def test_what_the_reference_asks_for_is_there(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, thing = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), thing))


def test_every_public_part_is_in_the_reference() -> None:
    parts = {p.parent.name for p in Path(potstill.__path__[0]).glob("*/__init__.py")} - INNER
    named = {name.split(".")[1] for name in identifiers() if "." in name}

    assert parts - named == set(), "add `::: potstill.<name>` to a page of docs/reference"


def test_the_guide_has_only_figures_that_were_measured() -> None:
    def figures(page: str) -> set[str]:
        return set(_DECIMAL.findall((ROOT / "docs" / page).read_text(encoding="utf-8")))

    assert figures("choosing.md") - figures("results.md") - figures("log.md") == set()


@pytest.mark.parametrize("page", NAMES)
def test_names_in_the_text_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")

    named = set(_NAME.findall(text)) - {"potstill.codecs"}  # a group of entry points
    missing = [name for name in sorted(named) if not present(name)]

    assert missing == []


def present(name: str) -> bool:
    """A module, or what a module has, however deep."""
    head, *rest = name.split(".")
    found: object = importlib.import_module(head)
    for place, part in enumerate(rest, start=2):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join([head, *rest][:place]))
            except ModuleNotFoundError:
                return False
        found = getattr(found, part)
    return True
