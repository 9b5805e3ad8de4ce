"""Recipes by name or from files, with overrides."""

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml
from pydantic import JsonValue

from potstill.errors import RecipeError
from potstill.recipe.checking import parse
from potstill.recipe.whole import Recipe


def shipped() -> dict[str, str]:
    """The recipes that ship with Potstill: name → YAML text."""
    folder = resources.files("potstill.recipes")
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".yaml")
    }


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by the name of a shipped one or by path, with `key.path=value` overrides."""
    known = shipped()
    path = Path(name_or_path)
    if name_or_path in known:
        text, origin = known[name_or_path], f"the recipe {name_or_path!r}"
    elif path.is_file():
        text, origin = _read(path), str(path)
    else:
        close = difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise RecipeError(
            f"There is no recipe or file called {name_or_path!r}. {hint}"
            f"Shipped recipes: {', '.join(known)}. `potstill init` writes one of your own."
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from error
    if isinstance(content, dict):
        for override in overrides:
            _override(content, override)
    return parse(content, origin=origin)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as a recipe: {error}") from error


def _override(content: dict[str, object], text: str) -> None:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise RecipeError(
            f"The override {text!r} has no `=`; write for example `distill.epochs=5`."
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"The value of the override {text!r} is not valid YAML.") from error
    if isinstance(parsed, str):
        parsed = _number(parsed)
    *parents, last = key.split(".")
    place: object = content
    for parent in parents:
        place = _child(place, parent, text)
    _put(place, last, parsed, text)


def _number(text: str) -> str | float:
    """`1e-3` is a number to people, if not to YAML 1.1."""
    try:
        return float(text)
    except ValueError:
        return text


def _child(place: object, step: str, text: str) -> object:
    if isinstance(place, dict):
        if place.get(step) is None:
            place[step] = {}
        return place[step]
    if isinstance(place, list) and step.isdigit() and int(step) < len(place):
        return place[int(step)]
    raise RecipeError(f"The override {text!r} names {step!r}, and there is no such place.")


def _put(place: object, last: str, value: object, text: str) -> None:
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = value
    else:
        raise RecipeError(f"The override {text!r} names {last!r}, and there is no such place.")


def json_schema() -> dict[str, JsonValue]:
    """The JSON Schema of recipes, for editors."""
    return Recipe.model_json_schema()
