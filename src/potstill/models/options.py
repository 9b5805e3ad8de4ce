"""Options by name, checked against the signature of the function that builds the model.

A builder's keyword-only parameters are its options; their annotations say what is accepted.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from potstill.errors import ModelError
from potstill.models.config import Json

Value = None | bool | int | float | str | tuple[int, ...]

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def nearest(word: str, known: Iterable[str], *, plenty: int = 12) -> str:
    """The rest of a sentence about an unknown name: what was probably meant, or what there is."""
    names = sorted(known, key=str.casefold)
    by_fold = {name.casefold(): name for name in names}
    close = get_close_matches(word.casefold(), by_fold, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"`{by_fold[fold]}`" for fold in close) + "?"
    listed = ", ".join(f"`{name}`" for name in names[:plenty])
    more = f" and {len(names) - plenty} more" if len(names) > plenty else ""
    return f"there are {listed}{more}." if names else "there are none."


def read_options(
    build: Callable[..., nn.Module],
    options: Mapping[str, Json],
    *,
    model: str,
    taken: Iterable[str] = (),
) -> dict[str, Value]:
    """The options as arguments for `build`, each of the annotated type.

    Args:
        build: its keyword-only parameters, less those in `taken`, are the options.
        options: as given in a recipe or a JSON file; lists become tuples.
        model: the name for the sentence.
        taken: parameters that the name of the model already decides.

    Raises:
        ModelError: for a name that is not an option, one that is missing, or a value of another
            type.
    """
    hints = get_type_hints(build)
    parameters = inspect.signature(build).parameters.values()
    known = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in set(taken)]
    refuse_unknown(options, [p.name for p in known], model=model)
    for parameter in known:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ModelError(f"`{model}` needs the option `{parameter.name}`; give it.")
    return {name: _convert(name, value, hints[name], model) for name, value in options.items()}


def refuse_unknown(options: Iterable[str], known: Iterable[str], *, model: str) -> None:
    """Refuse options that are not known, naming the nearest and all that are.

    Raises:
        ModelError: if there is one.
    """
    names = sorted(known)
    for name in options:
        if name not in names:
            listed = ", ".join(f"`{known}`" for known in names)
            close = get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"; did you mean `{close[0]}`?" if close else "."
            all_of_them = f"its options are {listed}" if names else "it takes none"
            raise ModelError(f"`{model}` has no option `{name}`: {all_of_them}{hint}")


def _convert(name: str, value: Json, hint: object, model: str) -> Value:
    """The value as the annotation wants it."""
    if get_origin(hint) in (Union, UnionType):
        inner = [part for part in get_args(hint) if part is not NoneType]
        return None if value is None else _convert(name, value, inner[0], model)
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise _wrong(name, value, "one of " + ", ".join(choices), model)
        return str(value)
    if get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise _wrong(name, value, "a list of whole numbers", model)
        return tuple(int(str(item)) for item in value)
    if hint is float and type(value) in (int, float):
        return float(str(value))
    if isinstance(hint, type) and type(value) is hint and isinstance(value, bool | int | str):
        return value
    raise _wrong(name, value, _WORDS[hint] if isinstance(hint, type) else str(hint), model)


def _wrong(name: str, value: Json, expected: str, model: str) -> ModelError:
    return ModelError(f"The option `{name}` of `{model}` is {value!r}; it must be {expected}.")
