"""Reading plain values (what a recipe holds) with one-sentence errors and the nearest name."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias, final

from potstill.errors import RecipeError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


def nearest(name: str, choices: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest one, or all of them."""
    names = sorted(choices)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"choose one of {', '.join(f'`{n}`' for n in names)}."


@final
class Options:
    """A mapping of plain values, read key by key; a key that nobody knows is refused at once.

    Args:
        values: what was given.
        known: every key that may occur.
        owner: who is asking, for messages, e.g. "data source `npz`".

    Raises:
        RecipeError: a key is unknown, or (from the readers) a value has the wrong type.
    """

    def __init__(self, values: Mapping[str, JSON], *, known: Collection[str], owner: str) -> None:
        for key in values:
            if key not in known:
                raise RecipeError(f"{owner} has no option `{key}`; {nearest(key, known)}")
        self._values, self._owner = values, owner

    def text(self, key: str, *, choices: Collection[str] = ()) -> str | None:
        """A string, one of `choices` if there are any; `None` if the key is absent."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        if choices and value not in choices:
            raise RecipeError(
                f"`{key}: {value}` of {self._owner} is unknown; {nearest(value, choices)}"
            )
        return value

    def required(self, key: str, *, why: str) -> str:
        """A string that must be there."""
        value = self.text(key)
        if value is None:
            raise RecipeError(f"{self._owner} needs `{key}:`, {why}.")
        return value

    def mapping_if(self, key: str) -> Mapping[str, JSON] | None:
        """The value if it is a mapping, for options that may also be written as a string."""
        value = self._values.get(key)
        return value if isinstance(value, Mapping) else None

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false; `default` if absent."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def number(self, key: str, *, default: float | None = None) -> float:
        """A finite number; required when there is no default."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise self._wrong(key, "a number")
        return float(value)

    def whole(self, key: str) -> int | None:
        """A whole number; `None` if absent."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """One string or a list of them, as a tuple; `None` if absent."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            return (value,)
        if isinstance(value, Sequence) and all(isinstance(v, str | int) for v in value):
            return tuple(str(v) for v in value)
        raise self._wrong(key, "a string or a list of strings")

    def mapping(self, key: str) -> Mapping[str, JSON]:
        """A mapping; empty if absent."""
        value = self._values.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong(key, "a mapping")
        return value

    def size(self, key: str) -> tuple[int, int] | None:
        """Height and width, from one whole number or two; `None` if absent."""
        value = self._values.get(key)
        if value is None:
            return None
        both = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * 2
        if len(both) == 2 and all(isinstance(v, int) and v is not True and v > 0 for v in both):
            height, width = both
            assert isinstance(height, int)
            assert isinstance(width, int)
            return height, width
        raise self._wrong(key, "a positive whole number or [height, width]")

    def pair(self, key: str, *, default: tuple[float, float]) -> tuple[float, float]:
        """Two numbers; `default` if absent."""
        value = self._values.get(key, default)
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
            first, second = value
            if all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
                assert isinstance(first, int | float)
                assert isinstance(second, int | float)
                return first, second
        raise self._wrong(key, "two numbers, [lowest, highest]")

    def _wrong(self, key: str, expected: str) -> RecipeError:
        return RecipeError(
            f"`{key}` of {self._owner} must be {expected}, got {self._values.get(key)!r}."
        )
