"""From plain values to a checked recipe, with a sentence for each mistake."""

import difflib
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError

from potstill.errors import RecipeError
from potstill.recipe.whole import Recipe


def parse(content: object, *, origin: str = "the recipe") -> Recipe:
    """A checked recipe from plain values.

    Raises:
        RecipeError: naming each wrong key or value, with the nearest known name.
    """
    if not isinstance(content, Mapping):
        raise RecipeError(
            f"{origin} holds {type(content).__name__}, a mapping of keys was expected. "
            "`potstill init` writes one to start from."
        )
    try:
        recipe = Recipe.model_validate(dict(content))
    except ValidationError as error:
        lines = [_sentence(problem) for problem in error.errors()]
        head = f"{origin} is wrong in {len(lines)} place{'s' if len(lines) > 1 else ''}:"
        raise RecipeError("\n".join([head, *(f"  - {line}" for line in lines)])) from None
    _check(recipe, origin)
    return recipe


def _check(recipe: Recipe, origin: str) -> None:
    teacher = recipe.teacher
    ways = ("model", "ensemble", "average", "peers")
    given = [way for way in ways if getattr(teacher, way)]
    if len(given) != 1:
        raise RecipeError(
            f"{origin}: `teacher` needs either `model` or `ensemble` (a list of models), or one of "
            f"`average` and `peers`; {' and '.join(given) or 'none of them'} was given."
        )
    chain = recipe.chain
    if chain is not None and bool(chain.assistants) == (chain.generations is not None):
        raise RecipeError(
            f"{origin}: `chain` needs either `assistants` (a list of models) or `generations` (a "
            f"number); {'both were' if chain.assistants else 'neither was'} given."
        )
    if chain is not None and given[0] in ("average", "peers"):
        raise RecipeError(
            f"{origin}: `chain` begins with a trained teacher, and `teacher.{given[0]}` grows with "
            "the student; leave one of them out."
        )
    if len(set(recipe.seeds)) != len(recipe.seeds):
        raise RecipeError(f"{origin}: `seeds` {list(recipe.seeds)} has a seed twice.")


def _sentence(problem: Mapping[str, object]) -> str:
    where = [p for p in _tuple(problem["loc"]) if isinstance(p, str | int)]
    path = ".".join(str(p) for p in where)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(where[:-1])
        close = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(known)}."
        return f"`{path}` is not a key; {hint}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    given = "" if problem["type"] == "missing" else f" (given: {problem.get('input')!r})"
    return f"`{path}`: {message[:1].lower()}{message[1:]}{given}."


def _tuple(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, tuple) else ()


def _fields_at(path: Sequence[str | int]) -> list[str]:
    """The keys that the recipe knows at a path."""
    model: object = Recipe
    for step in path:
        if isinstance(step, int) or not isinstance(model, type) or not issubclass(model, BaseModel):
            continue
        field = model.model_fields.get(step)
        model = _model_in(field.annotation) if field is not None else model
    if isinstance(model, type) and issubclass(model, BaseModel):
        return list(model.model_fields)
    return []


def _model_in(annotation: object) -> object:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
