"""One façade, a sorted `__all__`, and nothing beside it."""

import ast
import importlib.metadata
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import potstill

SUBMODULES = {module.name for module in pkgutil.iter_modules(potstill.__path__)}
ROOT = Path(__file__).parents[2]


def test_public_names_are_declared_and_sorted() -> None:
    names = list(potstill.__all__)

    assert names, "the façade is empty"
    assert names == sorted(set(names), key=lambda name: (name.casefold(), name))


def test_nothing_public_is_undeclared() -> None:
    public = {name for name in dir(potstill) if not name.startswith("_")}

    assert public - SUBMODULES == set(potstill.__all__) - {"__version__"}


def test_public_names_are_ours() -> None:
    foreign = {
        name: home
        for name in potstill.__all__
        if (home := _home(name)) != "potstill" and not home.startswith("potstill.")
    }

    assert foreign == {}


def test_public_names_are_documented() -> None:
    silent = [
        name
        for name in potstill.__all__
        if inspect.isclass(value := getattr(potstill, name)) or inspect.isroutine(value)
        if not inspect.getdoc(value)
    ]

    assert silent == []


def test_no_public_name_is_also_a_module() -> None:
    # Importing `potstill.report` would replace a function `report` on the package, so what the
    # name means would depend on what has been imported before.
    assert set(potstill.__all__) & SUBMODULES == set()


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = potstill.no_such_name  # type: ignore[attr-defined]


def test_type_checkers_see_every_public_name() -> None:
    # A lazy façade repeats its imports under TYPE_CHECKING; a name missing there is `Any` to users.
    tree = ast.parse(Path(potstill.__file__).read_text(encoding="utf-8"))
    bound = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    bound |= {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }

    assert set(potstill.__all__) - bound == set()


def test_the_version_is_one_number_everywhere() -> None:
    installed = importlib.metadata.version("potstill")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert newest is not None
    assert potstill.__version__ == installed == newest[1]


def _home(name: str) -> str:
    value = getattr(potstill, name)
    return str(
        value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "potstill")
    )
