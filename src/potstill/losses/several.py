"""Terms on several layers at once, with parts that learn along.

Shapes: B samples.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, final

from torch import Tensor, nn

from potstill.errors import HandshakeError, RecipeError
from potstill.features.layout import Layout
from potstill.functional.reductions import keep_rows
from potstill.losses.checks import check_choice
from potstill.losses.features import feature_of, over_rows
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import Partial, Signals, Target

Features = tuple[Tensor, ...]


@dataclass(frozen=True, repr=False)
class LayersTerm(ArithmeticTerm):
    """A comparison of several layers of the student with several of the teacher.

    A subclass makes the module that learns (`network`) and gives `sample_losses`. Rows follow
    `Target.valid` as in `FeatureTerm`.

    Args:
        student_layers: names of modules of the student, from shallow to deep.
        teacher_layers: names of modules of the teacher, as many, in the same order.
        student_layout: how to read the student's features; by default from their number of axes.
        teacher_layout: how to read the teacher's features.
        seed: of the initial weights.
    """

    student_layers: tuple[str, ...]
    teacher_layers: tuple[str, ...] = ()
    student_layout: Layout | str | None = field(default=None, kw_only=True)
    teacher_layout: Layout | str | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    module: nn.Module | None = field(default=None, init=False, repr=False, compare=False)

    least: ClassVar[int] = 1
    """The smallest number of layers that the term makes sense for."""

    def __post_init__(self) -> None:
        for side in ("student", "teacher"):
            object.__setattr__(self, f"{side}_layers", self._names(f"{side}_layers"))
            layout = getattr(self, f"{side}_layout")
            if layout is not None:
                chosen = check_choice(self, f"{side}_layout", layout, Layout)
                object.__setattr__(self, f"{side}_layout", chosen)
        self._check_numbers()

    @abstractmethod
    def network(self, student: Features, teacher: Features) -> nn.Module:
        """What learns, sized for these features; its random weights are seeded already.

        Raises:
            HandshakeError: the shapes do not suit.
        """

    @abstractmethod
    def sample_losses(self, student: Features, teacher: Features, target: Target) -> Tensor:
        """The loss of each sample, `[B]`; the teacher's features are constant."""

    def needs(self) -> Needs:
        """All layers."""
        return Needs(student_layers=self.student_layers, teacher_layers=self.teacher_layers)

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over samples, and how many rows count."""
        if self.module is None:
            raise HandshakeError(
                f"`{self.name}` has nothing that learns yet; call `objective.bind(student, "
                "teacher)` with one batch."
            )
        mine, theirs = self._features(student, teacher)
        one_row_each = len(mine[0]) == target.num_rows
        mask_B = target.mask(labels=False) if one_row_each else None
        losses_B = self.sample_losses(
            tuple(keep_rows(each, mask_B) for each in mine),
            tuple(keep_rows(each, mask_B) for each in theirs),
            target,
        )
        return over_rows(losses_B, target, self.count(target))

    @final
    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with parts of its own for these features.

        Raises:
            HandshakeError: a layer is missing, or the shapes do not suit.
        """
        from potstill.runtime.seeds import seeded

        bound = replace(self)
        mine, theirs = self._features(student, teacher)
        with seeded(self.seed):
            made = self.network(mine, theirs)
        object.__setattr__(bound, "module", made.to(mine[0].device))
        return bound

    @final
    def parts(self) -> nn.Module | None:
        """What learns, once bound."""
        return self.module

    def _features(self, student: Signals, teacher: Signals) -> tuple[Features, Features]:
        mine = (feature_of(self, student, name, of="student") for name in self.student_layers)
        theirs = (feature_of(self, teacher, name, of="teacher") for name in self.teacher_layers)
        return tuple(mine), tuple(each.detach() for each in theirs)

    def _names(self, side: str) -> tuple[str, ...]:
        given: object = getattr(self, side)
        names = (given,) if isinstance(given, str) else given
        if isinstance(names, Sequence) and all(isinstance(name, str) for name in names):
            return tuple(str(name) for name in names)
        raise RecipeError(
            f"`{type(self).__name__}` got {side}={given!r}; give a list of names of layers."
        )

    def _check_numbers(self) -> None:
        mine, theirs = len(self.student_layers), len(self.teacher_layers)
        if mine != theirs or mine < self.least:
            raise RecipeError(
                f"`{type(self).__name__}` got {mine} layers of the student and {theirs} of the "
                f"teacher; give as many of both, from shallow to deep, {self.least} or more."
            )
