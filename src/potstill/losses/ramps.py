"""Numbers that move as the training goes on: weights and options of terms."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, final

from potstill.errors import RecipeError
from potstill.losses.written import number_as_written


class Shape(StrEnum):
    """How a ramp gets from its start to its end."""

    LINEAR = "linear"
    COSINE = "cosine"  # slow at both ends


@final
@dataclass(frozen=True, repr=False)
class Ramp:
    """A number that moves from `start` to `end` over a share of the run.

    Equivalent to `start + (end - start) * s` with s = 0 before `begin`, 1 after `until`, and in
    between the share of that stretch that is over (`linear`) or half of 1 - cos(π · that share).

    `Ramp(1, 0) * KD(temperature=4)` is an objective.

    Args:
        start: its value up to `begin`.
        end: its value from `until` on.
        shape: see `Shape`.
        begin: a share of all steps, 0 up to 1.
        until: a later share, up to 1.

    Raises:
        RecipeError: a number that is not finite, or shares out of order.
    """

    start: float
    end: float
    shape: Shape | str = Shape.LINEAR
    begin: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "begin", "until"):
            value: object = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value):  # type: ignore[arg-type]
                raise RecipeError(f"`{name}` of a ramp is {value!r}; give a finite number.")
        if not 0 <= self.begin < self.until <= 1:
            raise RecipeError(
                f"A ramp goes from begin={self.begin:g} until={self.until:g}; give shares of the "
                "run in order, from 0 to 1."
            )
        try:
            object.__setattr__(self, "shape", Shape(self.shape))
        except ValueError:
            raise RecipeError(
                f"The shape of a ramp is {self.shape!r}; give linear or cosine."
            ) from None

    def at(self, share: float) -> float:
        """Its value when this share of all steps is over."""
        over = min(max((share - self.begin) / (self.until - self.begin), 0.0), 1.0)
        if self.shape is Shape.COSINE:
            over = 0.5 * (1 - math.cos(math.pi * over))
        return self.start + (self.end - self.start) * over

    def __mul__(self, factor: float) -> Self:
        if not isinstance(factor, int | float) or isinstance(factor, bool):
            return NotImplemented
        return type(self)(
            factor * self.start, factor * self.end, self.shape, self.begin, self.until
        )

    __rmul__ = __mul__

    def __repr__(self) -> str:
        shown = [number_as_written(self.start), number_as_written(self.end)]
        if self.shape is not Shape.LINEAR:
            shown.append(f'shape="{self.shape}"')
        shown += [
            f"{name}={number_as_written(value)}"
            for name, value, usual in (("begin", self.begin, 0.0), ("until", self.until, 1.0))
            if value != usual
        ]
        return f"Ramp({', '.join(shown)})"


def ramp_of(value: object, *, where: str) -> Ramp | None:
    """A ramp from plain values, `{from: 1, to: 0, shape: linear, begin: 0, until: 1}`.

    Returns:
        `None` where the value is no mapping.

    Raises:
        RecipeError: a mapping that is no ramp.
    """
    if not isinstance(value, Mapping):
        return None
    known = {"from", "to", "shape", "begin", "until"}
    if not {"from", "to"} <= value.keys() <= known:
        raise RecipeError(
            f"`{where}` is {dict(value)}; a number that moves is written "
            "{from: 1, to: 0, shape: linear}, with begin and until as shares of the run."
        )
    rest = {key: each for key, each in value.items() if key not in ("from", "to")}
    return Ramp(value["from"], value["to"], **rest)
