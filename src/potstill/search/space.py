"""What a search may choose: knobs, and choices that bring knobs of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final

Value: TypeAlias = bool | int | float | str
Values: TypeAlias = Mapping[str, Value]


class Suggesting(Protocol):
    """What `Knob.suggest` asks: an Optuna trial, or anything that answers alike."""

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """One of the choices."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """A whole number from `low` to `high`, both included."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number from `low` to `high`."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Knob:
    """One thing that can be set.

    Args:
        name: within its branch.
        choices: the values, the one that makes the smallest student first; or
        low: the least value, and
        high: the greatest one.
        log: equal ratios are equally likely.
        whole: whole numbers alone.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @property
    def smallest(self) -> Value:
        """The value of the smallest student."""
        if self.choices:
            return self.choices[0]
        return int(self.low) if self.whole else self.low

    def suggest(self, trial: Suggesting, name: str) -> Value:
        """A value, drawn by a trial."""
        if self.choices:
            return trial.suggest_categorical(name, list(self.choices))
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@final
@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several branches, each with knobs that the others do not have.

    Args:
        name: of the choice.
        branches: by name; a knob's full name is `branch.knob`.
    """

    name: str
    branches: Mapping[str, tuple[Knob, ...]]


@final
@dataclass(frozen=True, kw_only=True)
class Space:
    """All that a search may choose.

    Args:
        choices: each is made, and brings its branch's knobs.
        knobs: always there.
    """

    choices: tuple[Choice, ...]
    knobs: tuple[Knob, ...] = ()

    def draw(self, trial: Suggesting) -> dict[str, Value]:
        """Values for everything, drawn by a trial."""
        values: dict[str, Value] = {}
        for choice in self.choices:
            branch = str(trial.suggest_categorical(choice.name, list(choice.branches)))
            values[choice.name] = branch
            for knob in choice.branches[branch]:
                name = f"{branch}.{knob.name}"
                values[name] = knob.suggest(trial, name)
        for knob in self.knobs:
            values[knob.name] = knob.suggest(trial, knob.name)
        return values

    def names(self, choice: str) -> set[str]:
        """The full names of a choice and of the knobs in its branches."""
        made = {choice}
        for each in self.choices:
            if each.name == choice:
                made |= {f"{b}.{k.name}" for b, knobs in each.branches.items() for k in knobs}
        return made

    def smallest(self, name: str, branch: str) -> dict[str, Value]:
        """Values of the smallest student of a branch; the other choices take their first one."""
        values: dict[str, Value] = {}
        for choice in self.choices:
            chosen = branch if choice.name == name else next(iter(choice.branches))
            values[choice.name] = chosen
            values |= {f"{chosen}.{k.name}": k.smallest for k in choice.branches[chosen]}
        return values | {knob.name: knob.smallest for knob in self.knobs}


def of_branch(values: Values, branch: str) -> dict[str, Value]:
    """The values of a branch's knobs, by their short names."""
    prefix = f"{branch}."
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
