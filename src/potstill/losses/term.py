"""Terms that add up and scale, and print as the code that makes them."""

from abc import ABC
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar

from torch import Tensor

from potstill.functional.reductions import sum_rows
from potstill.losses.objective import Objective, Weighted, as_objective, number_as_written
from potstill.protocols import Term
from potstill.signals import Target

_ALWAYS_SHOWN = frozenset({"temperature"})


@dataclass(frozen=True, repr=False, eq=False)
class ArithmeticTerm(Term, ABC):
    """A term with `+` and `*`. Subclasses are frozen dataclasses, whose fields are the options.

    `2 * term` is an `Objective`; so is `term + other`. A term prints with the options that differ
    from their defaults, and always with its temperature.

    Attributes:
        batchwise: the term compares rows with each other, so that cutting a batch into
            micro-batches changes its value. False for nearly all.
    """

    batchwise: ClassVar[bool] = False

    def count(self, target: Target) -> Tensor | int:
        """How many rows count, or their weights together, if they have any.

        None count when labels are needed and the batch has none at all.
        """
        needs_labels = self.needs().labels
        if needs_labels and target.labels is None:
            return 0
        mask = target.mask(labels=self.needs().labelled_rows)
        if target.weights is not None:
            return sum_rows(target.weights, mask)
        return target.num_rows if mask is None else mask.sum()

    def __add__(self, other: Objective | Term) -> Objective:
        return Objective((Weighted(1, self),)).__add__(other)

    def __radd__(self, other: Objective | Term | int) -> Objective:
        return Objective((Weighted(1, self),)).__radd__(other)

    def __mul__(self, factor: float) -> Objective:
        return Objective((Weighted(1, self),)).__mul__(factor)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        shown = [
            _as_written(option, getattr(self, option.name))
            for option in fields(self)
            if option.init and _is_shown(option, getattr(self, option.name))
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def weighted(term: Term, weight: float = 1) -> Objective:
    """`weight * term`, for terms that have no arithmetic of their own."""
    objective = as_objective(term)
    assert objective is not None
    return objective * weight


def _is_shown(option: Field[Any], value: object) -> bool:
    if option.default is MISSING or not option.kw_only or option.name in _ALWAYS_SHOWN:
        return True
    return bool(value != option.default)


def _as_written(option: Field[Any], value: object) -> str:
    text = repr(value)
    if isinstance(value, str | StrEnum):
        text = f'"{value}"'
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = number_as_written(value)
    return f"{option.name}={text}" if option.kw_only else text
