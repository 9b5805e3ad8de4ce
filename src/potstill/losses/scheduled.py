"""Terms some of whose options move as the training goes on."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self, final

from torch import Tensor, nn

from potstill.errors import HandshakeError, RecipeError
from potstill.losses.ramps import Ramp
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs, Term
from potstill.signals import Partial, Signals, Target


@final
@dataclass(frozen=True, repr=False, eq=False)
class Scheduled(ArithmeticTerm):
    """A term some of whose options move, made by `scheduled`; a training asks it at every step.

    Called by itself it is the term as it starts.

    Args:
        term: with the options that stand still; the moving ones have their first value.
        ramps: the moving options.
    """

    term: ArithmeticTerm
    ramps: tuple[tuple[str, Ramp], ...]

    @property
    def name(self) -> str:
        """The term's own."""
        return self.term.name

    @property
    def moves(self) -> bool:
        """Always."""
        return True

    def during(self, share: float) -> ArithmeticTerm:
        """The plain term when this share of all steps is over."""
        return replace(self.term, **{name: ramp.at(share) for name, ramp in self.ramps})

    def needs(self) -> Needs:
        """What the term needs; a store keeps answers at one temperature, so none will do."""
        return replace(self.term.needs(), sparse_teacher=False)

    def count(self, target: Target) -> Tensor | int:
        """As the term."""
        return self.term.count(target)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The term as it starts."""
        return self.term(student, teacher, target)

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """The same, if the term has nothing learnable.

        Raises:
            HandshakeError: it has, which a change of its options would throw away.
        """
        if self.term.bind(student, teacher).parts() is not None:
            raise HandshakeError(
                f"`{self.name}` has parts that learn, so its options cannot move; give it a weight "
                "that does."
            )
        return self

    def parts(self) -> nn.Module | None:
        """Nothing; see `bind`."""
        return None

    def __repr__(self) -> str:
        moving = ", ".join(f"{name}={ramp!r}" for name, ramp in self.ramps)
        return f"scheduled({self.term!r}, {moving})"


def scheduled(term: ArithmeticTerm, **ramps: Ramp) -> Scheduled:
    """A term some of whose options move: `scheduled(KD(temperature=8), temperature=Ramp(8, 1))`.

    Args:
        term: with options that are numbers.
        ramps: by the option's name.

    Raises:
        RecipeError: no such option, one that is no number, or a value on the way that cannot teach.
    """
    known = {option.name for option in fields(term) if option.init}
    for name, ramp in ramps.items():
        if name not in known:
            raise RecipeError(
                f"`{term.name}` has no option `{name}` to move; its options: "
                f"{', '.join(sorted(known)) or 'none'}."
            )
        value = getattr(term, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RecipeError(f"`{name}` of `{term.name}` is {value!r}, which cannot move.")
        for end in (ramp.start, ramp.end):
            replace(term, **{name: end})  # refuses what cannot teach
    first = replace(term, **{name: ramp.start for name, ramp in ramps.items()})
    return Scheduled(first, tuple(ramps.items()))


def with_standing(term: Term, change: Callable[[Term], Term]) -> Term:
    """A change of a term, or of the options that stand still of one whose others move."""
    if not isinstance(term, Scheduled):
        return change(term)
    changed = change(term.term)
    assert isinstance(changed, ArithmeticTerm), "a term stays one"
    return replace(term, term=changed)
