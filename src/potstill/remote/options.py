"""A server from the plain values of a recipe."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import final

from potstill.errors import RecipeError
from potstill.remote.scoring import Way
from potstill.remote.server import Server

_KINDS: Mapping[str, tuple[type, ...]] = {
    "url": (str,),
    "key": (str,),
    "timeout": (int, float),
    "retries": (int,),
    "backoff": (int, float),
    "longest_wait": (int, float),
    "rate": (int, float),
    "concurrency": (int,),
    "top": (int,),
    "scoring": (str,),
    "version": (str, int, float),
    "answers": (str,),
}
_SERVER = frozenset(field.name for field in fields(Server)) - {"model"}


@final
@dataclass(frozen=True, kw_only=True)
class Asking:
    """A server and what it is asked for.

    Args:
        server: whom.
        top: log-probabilities a place.
        way: how; `None` finds out.
        version: names the weights.
        answers: the file in which answers are kept; `None` is one in the run folder.
    """

    server: Server
    top: int = 20
    way: Way | None = None
    version: str = ""
    answers: str | None = None


def asking_of(model: str, options: Mapping[str, object], *, where: str) -> Asking:
    """Checked values.

    Args:
        model: the name under which the server serves it.
        options: see `_KINDS`.
        where: the key of the recipe that they stand under.

    Raises:
        RecipeError: an unknown key, or a value that is none.
    """
    for name, value in options.items():
        if name not in _KINDS:
            close = difflib.get_close_matches(name, _KINDS, n=1, cutoff=0.5)
            hint = f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(_KINDS)}."
            raise RecipeError(f"`{where}.{name}` is no option of a model of source api; {hint}")
        if isinstance(value, bool) or not isinstance(value, _KINDS[name]):
            kinds = " or ".join(kind.__name__ for kind in _KINDS[name])
            given = "" if name == "key" else f" (given: {value!r})"
            raise RecipeError(f"`{where}.{name}` should be {kinds}{given}.")
    if "url" not in options:
        raise RecipeError(
            f"`{where}` of source api needs `url`, for example http://localhost:8000/v1"
        )
    top, way = int(str(options.get("top", 20))), options.get("scoring")
    if top < 1:
        raise RecipeError(f"`{where}.top` is {top}; at least 1 is expected.")
    if way is not None and way not in list(Way):
        known = ", ".join(Way)
        raise RecipeError(f"`{where}.scoring` is {way!r}; one of {known} is expected.")
    chosen = {name: value for name, value in options.items() if name in _SERVER}
    return Asking(
        server=Server(model=model, **chosen),  # type: ignore[arg-type]  # checked above
        top=top,
        way=None if way is None else Way(str(way)),
        version=str(options.get("version", "")),
        answers=None if "answers" not in options else str(options["answers"]),
    )
