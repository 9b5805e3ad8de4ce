"""Terms on several pairs of layers together, with a module that learns from all of them.

Shapes: B samples.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, final

from torch import Tensor, nn

from potstill.errors import HandshakeError, RecipeError
from potstill.features.pairing import Wanted
from potstill.functional.reductions import keep_rows
from potstill.losses.layers import LayerTerm, total_of
from potstill.runtime.seeds import seeded
from potstill.signals import Partial, Signals, Target

Features = tuple[Tensor, ...]


@dataclass(frozen=True, repr=False)
class LayersTerm(LayerTerm):
    """A comparison of several layers of the student with as many of the teacher, all at once.

    A subclass makes the module that learns (`network`) and gives `sample_losses`. Rows follow
    `Target.valid` as in `FeatureTerm`.

    Args:
        student_layer: names of modules of the student from shallow to deep, or "auto": the ends of
            its stages.
        teacher_layer: as many of the teacher, or "auto".
        student_layout: how to read the student's features; by default from their number of axes.
        teacher_layout: how to read the teacher's features.
        seed: of the initial weights.
    """

    seed: int = field(default=0, kw_only=True)
    module: nn.Module | None = field(default=None, init=False, repr=False, compare=False)

    wanted: ClassVar[Wanted] = Wanted.STAGES
    least: ClassVar[int] = 1
    """The smallest number of pairs that the term makes sense for."""

    def __post_init__(self) -> None:
        LayerTerm.__post_init__(self)
        if not self.is_open and len(self.pairs()) < self.least:
            raise RecipeError(
                f"`{type(self).__name__}` got {len(self.pairs())} pair of layers; give "
                f"{self.least} or more of each model, from shallow to deep."
            )

    @abstractmethod
    def network(self, student: Features, teacher: Features) -> nn.Module:
        """What learns, sized for these features; its random weights are seeded already.

        Raises:
            HandshakeError: the shapes do not suit.
        """

    @abstractmethod
    def sample_losses(self, student: Features, teacher: Features, target: Target) -> Tensor:
        """The loss of each sample, `[B]`; the teacher's features are constant."""

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over samples, and how many rows count."""
        self.check_named()
        if self.module is None:
            raise HandshakeError(
                f"`{self.name}` has nothing that learns yet; call `objective.bind(student, "
                "teacher)` with one batch."
            )
        mine, theirs = self._all(student, teacher)
        one_row_each = len(mine[0]) == target.num_rows
        mask_B = target.mask(labels=False) if one_row_each else None
        losses_B = self.sample_losses(
            tuple(keep_rows(each, mask_B) for each in mine),
            tuple(keep_rows(each, mask_B) for each in theirs),
            target,
        )
        count = self.count(target)
        return Partial(total_of(losses_B, target, mask_B, count), count)

    @final
    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with parts of its own for these features.

        Raises:
            HandshakeError: a layer is missing, or the shapes do not suit.
        """
        self.check_named()
        bound = replace(self)
        mine, theirs = self._all(student, teacher)
        with seeded(self.seed):
            made = self.network(mine, theirs)
        object.__setattr__(bound, "module", made.to(mine[0].device))
        return bound

    @final
    def parts(self) -> nn.Module | None:
        """What learns, once bound."""
        return self.module

    def describe(self, student: Signals, teacher: Signals) -> Iterator[str]:
        """As in `LayerTerm`, in one line."""
        describe = getattr(self.module, "describe", None)
        if describe is not None:
            pairs = ", ".join(f"{mine} → {theirs}" for mine, theirs in self.pairs())
            yield f"{pairs}: {describe()}"

    def _all(self, student: Signals, teacher: Signals) -> tuple[Features, Features]:
        pairs = [self.features(student, teacher, n) for n in range(len(self.pairs()))]
        return tuple(mine for mine, _ in pairs), tuple(theirs for _, theirs in pairs)
