"""Models from the user's own Python, which runs only when the user said so (`--trust`)."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from torch import nn

from potstill.errors import ModelError, UntrustedCode
from potstill.models.config import ModelConfig


def build_python(config: ModelConfig, *, trust: bool) -> nn.Module:
    """The module that a user's function returns.

    The name is `package.module:function` or `path/to/file.py:function`. The function is called as
    `function(input_shape=(3, 32, 32), num_outputs=10, **options)`.

    Raises:
        UntrustedCode: if `trust` is false; nothing is imported then.
        ModelError: if the function is not there, fails, or returns something else.
    """
    if not trust:
        raise UntrustedCode(
            f"`{config.name}` is Python code named in a recipe: read it, then allow it to run with "
            "`--trust`."
        )
    function = _function(config.name)
    try:
        model = function(
            input_shape=config.input_shape, num_outputs=config.num_outputs, **config.options
        )
    except Exception as error:
        raise ModelError(
            f"`{config.name}` failed with {type(error).__name__} ({error}): it is called with "
            f"`input_shape`, `num_outputs` and the options {sorted(config.options)}."
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"`{config.name}` returned a {type(model).__name__}; it must return a torch.nn.Module."
        )
    return model


def _function(name: str) -> Callable[..., object]:
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise ModelError(
            f"`{name}` does not say which function builds the model: write "
            "`package.module:function` or `path/to/file.py:function`."
        )
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else import_module(place)
    except Exception as error:
        raise ModelError(
            f"`{place}` could not be imported ({type(error).__name__}: {error}): check the path, "
            "or install the package."
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ModelError(
            f"`{place}` has no function `{attribute}`: check the name after the colon."
        )
    found: Callable[..., object] = function
    return found


def _from_file(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module = module_from_spec(spec)
    # Dataclasses and pickles look their module up by name while it is being run.
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = before
    return module
