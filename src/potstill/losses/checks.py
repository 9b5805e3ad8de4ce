"""Refuse options of terms that cannot teach, with a sentence that names the term and the option."""

import math
from enum import StrEnum
from typing import TypeVar

from potstill.errors import RecipeError

Choice = TypeVar("Choice", bound=StrEnum)


def check_number(
    owner: object,
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Raise `RecipeError` unless the option is a finite number within its bounds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        is_number
        and math.isfinite(value)  # type: ignore[arg-type]
        and (above is None or value > above)  # type: ignore[operator]
        and (at_least is None or value >= at_least)  # type: ignore[operator]
        and (below is None or value < below)  # type: ignore[operator]
        and (at_most is None or value <= at_most)  # type: ignore[operator]
    ):
        return
    bounds = [("above", above), ("at least", at_least), ("below", below), ("at most", at_most)]
    wanted = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
    raise RecipeError(
        f"`{type(owner).__name__}` got {name}={value!r}; give a finite number"
        f"{' ' * bool(wanted)}{wanted}, or leave `{name}` out for the default."
    )


def check_whole(owner: object, name: str, value: object, *, at_least: int) -> None:
    """Raise `RecipeError` unless the option is a whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise RecipeError(
            f"`{type(owner).__name__}` got {name}={value!r}; give a whole number of {at_least} or "
            "more."
        )


def check_flag(owner: object, name: str, value: object) -> None:
    """Raise `RecipeError` unless the option is true or false."""
    if not isinstance(value, bool):
        raise RecipeError(f"`{type(owner).__name__}` got {name}={value!r}; give true or false.")


def check_choice(owner: object, name: str, value: object, choices: type[Choice]) -> Choice:
    """The member of `choices` that the option names; `RecipeError` if there is none."""
    if isinstance(value, str) and value in {choice.value for choice in choices}:
        return choices(value)
    known = ", ".join(f'"{choice.value}"' for choice in choices)
    raise RecipeError(f"`{type(owner).__name__}` got {name}={value!r}; give one of {known}.")
