"""Terms on features: one named layer of the student against one of the teacher.

Shapes: B samples, D features of the teacher's layer, then its positions if it has any.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, Self, final

import torch
from torch import Tensor, nn

from potstill.errors import HandshakeError, RecipeError
from potstill.features.matcher import Matcher
from potstill.features.projectors import Projector
from potstill.functional.distances import cosine_similarity, squared_error
from potstill.functional.reductions import keep_rows
from potstill.losses.checks import check_choice, check_flag
from potstill.losses.layers import LayerTerm, positions_of, total_of
from potstill.signals import Partial, Signals, Target


@dataclass(frozen=True, repr=False)
class FeatureTerm(LayerTerm):
    """A distance between the outputs of pairs of layers, each made comparable by a projector.

    A subclass writes `sample_losses`, a mean over positions that is zero where the features are
    equal; the padding of texts is then left out of it (`Target.positions`). The term is the sum
    over pairs. Rows follow `Target.valid` when there is one row a sample; where samples have
    several (`Target.samples`), each counts as often as it has rows, or by their weights.

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto".
        teacher_layer: as many of the teacher, or "auto". What is given finds its partner.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        project: make a learnable projector where the shapes differ; without it they must be equal.
        seed: of the projectors' initial weights.
    """

    project: bool = field(default=True, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    projectors: tuple[Matcher, ...] = field(default=(), init=False, repr=False, compare=False)

    always_bound: ClassVar[bool] = False
    """Parts of its own learn between equal shapes too, so that it cannot do without `bind`."""

    def __post_init__(self) -> None:
        LayerTerm.__post_init__(self)
        check_flag(self, "project", self.project)

    def sample_losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of each sample, `[B]`; a subclass gives this, or `losses`.

        Args:
            student: projected; `[B, D]`, `[B, D, L]` or `[B, D, H, W]`, features always on axis 1.
            teacher: the same shape, constant.
        """
        raise NotImplementedError(f"`{self.name}` says neither `sample_losses` nor `losses`")

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over pairs and samples, and how many rows count."""
        self.check_named()
        count = self.count(target)
        totals = [
            self._total(student, teacher, target, count, number)
            for number in range(len(self.pairs()))
        ]
        total = totals[0]
        for each in totals[1:]:
            total = total + each
        return Partial(total, count)

    def _total(
        self, student: Signals, teacher: Signals, target: Target, count: Tensor | int, number: int
    ) -> Tensor:
        mine, theirs = self.features(student, teacher, number)
        mask_B = target.mask(labels=False) if len(mine) == target.num_rows else None
        projector = self._projector(mine, theirs, number)
        kept = keep_rows(mine, mask_B), keep_rows(theirs, mask_B)
        losses_B = self.losses(*self.matched(projector, *kept, target), target, projector)
        return total_of(losses_B, target, mask_B, count)

    def matcher(self, student: Tensor, teacher: Tensor, *, seed: int) -> Matcher:
        """What brings a pair of features together; for terms with more than a projector to learn.

        Args:
            student: the student's feature for one batch.
            teacher: the teacher's feature for the same batch.
            seed: of the pair.
        """
        return Projector(
            student,
            teacher,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
            seed=seed,
        )

    def matched(
        self, matcher: Matcher, student: Tensor, teacher: Tensor, target: Target
    ) -> tuple[Tensor, Tensor]:
        """Both features in one shape; for matchers that must know more than the features."""
        found: tuple[Tensor, Tensor] = matcher(student, teacher)
        return found

    def losses(self, student: Tensor, teacher: Tensor, target: Target, matcher: Matcher) -> Tensor:
        """`sample_losses` with padding left out; for terms whose rows or positions compare."""
        return _over_positions(self, student, teacher, positions_of(student, target))

    @final
    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with its own projectors for these features.

        Raises:
            HandshakeError: a layer is missing or two shapes cannot be brought together.
        """
        self.check_named()
        bound = replace(self)
        projectors = tuple(
            self._new_projector(*self.features(student, teacher, number), number)
            for number in range(len(self.pairs()))
        )
        object.__setattr__(bound, "projectors", projectors)
        return bound

    @property
    def projector(self) -> Matcher | None:
        """The projector of the first pair, once bound."""
        return self.projectors[0] if self.projectors else None

    def parts(self) -> nn.Module | None:
        """The projectors that have anything to learn, once bound."""
        learning = [each for each in self.projectors if any(True for _ in each.parameters())]
        if len(self.projectors) == 1:
            return learning[0] if learning else None
        return nn.ModuleList(learning) if learning else None

    def describe(self, student: Signals, teacher: Signals) -> Iterator[str]:
        """As in `LayerTerm`, with the projectors once bound."""
        for (mine, theirs), projector in zip(self.pairs(), self.projectors, strict=False):
            yield f"{mine} → {theirs}: {projector.describe()}"

    def _projector(self, student: Tensor, teacher: Tensor, number: int) -> Matcher:
        if self.projectors:
            return self.projectors[number]
        if student.shape != teacher.shape or self.always_bound:
            raise HandshakeError(
                f"`{self.name}` has no projector yet from {list(student.shape)} to "
                f"{list(teacher.shape)}; call `objective.bind(student, teacher)` with one batch."
            )
        return self._new_projector(student, teacher, number)

    def _new_projector(self, student: Tensor, teacher: Tensor, number: int) -> Matcher:
        projector = self.matcher(student, teacher, seed=self.seed + number)
        if not self.project and not projector.is_identity:
            mine, theirs = self.pairs()[number]
            raise HandshakeError(
                f"`{self.name}` without projector needs equal shapes, got {list(student.shape)} "
                f"from `{mine}` and {list(teacher.shape)} from "
                f"`{theirs}`; leave `project=False` out."
            )
        return projector


class Distance(StrEnum):
    """How a hint compares two features."""

    SQUARED_ERROR = "squared_error"
    COSINE = "cosine"


@final
@dataclass(frozen=True, repr=False)
class Hint(FeatureTerm):
    r"""Layers of the student follow layers of the teacher through learnable projectors.

    Formula: $\mathrm{mean}\,(P(f_s) - f_t)^2$ over all elements of a sample, or with "cosine"
        $1 - \cos(P(f_s), f_t)$ over features, mean over positions; summed over pairs of layers.
    Shapes: maps `[B, D, H, W]`, signals `[B, D, L]`, tokens `[B, T, D]` or vectors `[B, D]`, in any
        combination; see `potstill.features.projectors.Projector`.
    Paper: Romero et al. 2014, arXiv:1412.6550.
    Requires: a teacher whose layers can be read. No labels.
    Related: `KD` compares what comes out at the end.
    Example: `KD(temperature=4) + CrossEntropy() + 50 * Hint("layer2", "layer3")`

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto": its
            last layer with positions.
        teacher_layer: as many of the teacher, or "auto": the partner of the student's.
        project: make a learnable projector where the shapes differ.
        student_layout: "map", "map_last", "signal", "tokens" or "vector"; by default from the axes.
        teacher_layout: the same for the teacher.
        seed: of the projector's initial weights.
        distance: "squared_error" or "cosine".
    """

    distance: Distance | str = field(default=Distance.SQUARED_ERROR, kw_only=True)

    def __post_init__(self) -> None:
        FeatureTerm.__post_init__(self)
        distance = check_choice(self, "distance", self.distance, Distance)
        object.__setattr__(self, "distance", distance)

    def sample_losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """As in `FeatureTerm`."""
        if self.distance == Distance.COSINE:
            losses = 1 - cosine_similarity(student, teacher, dim=1)
        else:
            losses = squared_error(student, teacher)
        return losses.reshape(len(losses), -1).mean(dim=1)


def _over_positions(
    term: FeatureTerm, student: Tensor, teacher: Tensor, positions_BL: Tensor | None
) -> Tensor:
    """`[B]` losses in which padded positions are equal, and do not count in the mean."""
    if positions_BL is None:
        return term.sample_losses(student, teacher)
    losses_B = term.sample_losses(torch.where(positions_BL[:, None], student, teacher), teacher)
    return losses_B * positions_BL.shape[1] / positions_BL.sum(dim=1).clamp(min=1)


def check_projects(term: FeatureTerm) -> None:
    """Refuse `project=False` for a term that is made of what it learns."""
    if not term.project:
        raise RecipeError(
            f"`{type(term).__name__}` got project=False and always learns; leave `project` out."
        )
