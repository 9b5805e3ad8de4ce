"""Data that a user's own function returns. Runs code, so it needs the user's word."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from potstill.data.arrays import Array
from potstill.data.assembly import Raw
from potstill.data.sources.members import ALIASES, choose, to_parts
from potstill.data.sources.request import Request
from potstill.errors import DataError, UntrustedCode

OPTIONS = frozenset({"target", "arguments"})


def read(request: Request) -> Raw:
    """`target: package.module:function` or `target: file.py:function`, called with `arguments:`.

    The function returns a mapping of arrays by the names that `npz` members have (x_train,
    y_train, …), and may add `classes` and `features`, lists of names.

    Raises:
        UntrustedCode: code named in a recipe was not allowed to run.
        DataError: no such module or function, or it returned something else.
    """
    target = request.options.required("target", why="such as `mydata:load` or `mydata.py:load`")
    if not request.trust:
        raise UntrustedCode(
            f"The data come from running `{target}`; read that code, then add `--trust` "
            "(in Python: `trust=True`) to let it run."
        )
    result = _function(target)(**request.options.mapping("arguments"))
    if not isinstance(result, Mapping):
        raise DataError(
            f"`{target}` returned {type(result).__name__}, and a mapping of arrays "
            "{'x_train': ..., 'y_train': ...} is expected; return that."
        )
    chosen = choose([str(key) for key in result], {}, owner=f"The result of `{target}`")
    arrays = {role: _array(result[name], name=name, owner=target) for role, name in chosen.items()}
    known = {alias for names in ALIASES.values() for alias in names} | {"classes", "features"}
    if unknown := sorted(str(key) for key in result if key not in known):
        raise DataError(
            f"`{target}` returned `{unknown[0]}`, which is not read; return only "
            f"{', '.join(ALIASES)}, classes and features."
        )
    return Raw(
        name=target,
        parts=to_parts(arrays),
        classes=_names(result.get("classes")),
        features=_names(result.get("features")),
    )


def _function(target: str) -> Callable[..., object]:
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise DataError(f"`target: {target}` names no function; write `module:function`.")
    try:
        module = (
            _file_module(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        )
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataError(
            f"`{place}` of `target: {target}` cannot be imported ({error}); give the path of a "
            ".py file, or install the module."
        ) from error
    function: object = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"`{place}` has no function `{name}`; check `target: {target}`.")
    return function


def _file_module(path: Path) -> ModuleType:
    """Import a file by its path, under its own name, without touching the search path."""
    spec = importlib.util.spec_from_file_location(path.stem, path.expanduser().resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses and pickling look a module up by name
    try:
        spec.loader.exec_module(module)
    finally:
        if previous is not None:
            sys.modules[path.stem] = previous
    return module


def _array(value: object, *, name: str, owner: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"`{name}` from `{owner}` is no array of one shape ({error}); make its rows equal."
        ) from error
    if array.dtype.kind == "O":
        raise DataError(
            f"`{name}` from `{owner}` holds Python objects; return numbers or text of one shape."
        )
    return array


def _names(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(str(name) for name in np.asarray(value).ravel().tolist())
