"""Terms on features: one named layer of the student against one of the teacher.

Shapes: B samples, D features of the teacher's layer, then its positions if it has any.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError, RecipeError
from potstill.features.layout import Layout
from potstill.features.matcher import Matcher
from potstill.features.projectors import Projector
from potstill.functional.distances import cosine_similarity, squared_error
from potstill.functional.reductions import keep_rows, sum_rows
from potstill.losses.checks import check_choice, check_flag
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import Partial, Signals, Target


@dataclass(frozen=True, repr=False)
class FeatureTerm(ArithmeticTerm):
    """A distance between the outputs of two layers, made comparable by a projector.

    A subclass writes `sample_losses`, a mean over positions that is zero where the features are
    equal; the padding of texts is then left out of it (`Target.positions`). Rows follow
    `Target.valid` when there is one row a sample; where samples have several (`Target.samples`),
    each counts as often as it has rows, or by their weights.

    Args:
        student_layer: name of a module of the student.
        teacher_layer: name of a module of the teacher.
        project: make a learnable projector where the shapes differ; without it they must be equal.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        seed: of the projector's initial weights.
    """

    student_layer: str
    teacher_layer: str
    project: bool = field(default=True, kw_only=True)
    student_layout: Layout | str | None = field(default=None, kw_only=True)
    teacher_layout: Layout | str | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    projector: Matcher | None = field(default=None, init=False, repr=False, compare=False)

    always_bound: ClassVar[bool] = False
    """Parts of its own learn between equal shapes too, so that it cannot do without `bind`."""

    def __post_init__(self) -> None:
        check_flag(self, "project", self.project)
        for side in ("student_layout", "teacher_layout"):
            layout = getattr(self, side)
            if layout is not None:
                object.__setattr__(self, side, check_choice(self, side, layout, Layout))

    def sample_losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of each sample, `[B]`; a subclass gives this, or `losses`.

        Args:
            student: projected; `[B, D]`, `[B, D, L]` or `[B, D, H, W]`, features always on axis 1.
            teacher: the same shape, constant.
        """
        raise NotImplementedError(f"`{self.name}` says neither `sample_losses` nor `losses`")

    def needs(self) -> Needs:
        """The two layers."""
        return Needs(student_layers=(self.student_layer,), teacher_layers=(self.teacher_layer,))

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over samples, and how many rows count."""
        student_feature = feature_of(self, student, self.student_layer, of="student")
        teacher_feature = feature_of(self, teacher, self.teacher_layer, of="teacher").detach()
        count = self.count(target)
        mask_B = target.mask(labels=False) if len(student_feature) == target.num_rows else None
        projector = self._projector(student_feature, teacher_feature)
        kept = keep_rows(student_feature, mask_B), keep_rows(teacher_feature, mask_B)
        losses_B = self.losses(*self.matched(projector, *kept, target), target, projector)
        return over_rows(losses_B, target, count)

    def matcher(self, student: Tensor, teacher: Tensor) -> Matcher:
        """What brings the two features together; for terms with more than a projector to learn."""
        return Projector(
            student,
            teacher,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
            seed=self.seed,
        )

    def matched(
        self, matcher: Matcher, student: Tensor, teacher: Tensor, target: Target
    ) -> tuple[Tensor, Tensor]:
        """Both features in one shape; for matchers that must know more than the features."""
        found: tuple[Tensor, Tensor] = matcher(student, teacher)
        return found

    def losses(self, student: Tensor, teacher: Tensor, target: Target, matcher: Matcher) -> Tensor:
        """`sample_losses` with padding left out; for terms whose rows or positions compare."""
        return _over_positions(self, student, teacher, positions_BL=target.positions)

    @final
    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with its own projector for these two features.

        Raises:
            HandshakeError: a layer is missing or the two shapes cannot be brought together.
        """
        bound = replace(self)
        projector = self._new_projector(
            feature_of(self, student, self.student_layer, of="student"),
            feature_of(self, teacher, self.teacher_layer, of="teacher"),
        )
        object.__setattr__(bound, "projector", projector)
        return bound

    @final
    def parts(self) -> Matcher | None:
        """The projector, once bound and where it has anything to learn."""
        if self.projector is None or not any(True for _ in self.projector.parameters()):
            return None
        return self.projector

    def _projector(self, student: Tensor, teacher: Tensor) -> Matcher:
        if self.projector is not None:
            return self.projector
        if student.shape != teacher.shape or self.always_bound:
            raise HandshakeError(
                f"`{self.name}` has no projector yet from {list(student.shape)} to "
                f"{list(teacher.shape)}; call `objective.bind(student, teacher)` with one batch."
            )
        return self._new_projector(student, teacher)

    def _new_projector(self, student: Tensor, teacher: Tensor) -> Matcher:
        projector = self.matcher(student, teacher)
        if not self.project and not projector.is_identity:
            raise HandshakeError(
                f"`{self.name}` without projector needs equal shapes, got {list(student.shape)} "
                f"from `{self.student_layer}` and {list(teacher.shape)} from "
                f"`{self.teacher_layer}`; leave `project=False` out."
            )
        return projector


class Distance(StrEnum):
    """How a hint compares two features."""

    SQUARED_ERROR = "squared_error"
    COSINE = "cosine"


@final
@dataclass(frozen=True, repr=False)
class Hint(FeatureTerm):
    r"""A layer of the student follows a layer of the teacher through a learnable projector.

    Formula: $\mathrm{mean}\,(P(f_s) - f_t)^2$ over all elements of a sample, or with "cosine"
        $1 - \cos(P(f_s), f_t)$ over features, mean over positions.
    Shapes: maps `[B, D, H, W]`, signals `[B, D, L]`, tokens `[B, T, D]` or vectors `[B, D]`, in any
        combination; see `potstill.features.projectors.Projector`.
    Paper: Romero et al. 2014, arXiv:1412.6550.
    Requires: a teacher whose layers can be read. No labels.
    Related: `KD` compares what comes out at the end.
    Example: `KD(temperature=4) + CrossEntropy() + 50 * Hint("layer2", "layer3")`

    Args:
        student_layer: name of a module of the student.
        teacher_layer: name of a module of the teacher.
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
    term: FeatureTerm, student: Tensor, teacher: Tensor, *, positions_BL: Tensor | None
) -> Tensor:
    """`[B]` losses in which padded positions are equal, and do not count in the mean."""
    shape = (len(student), *student.shape[2:])
    if positions_BL is None or tuple(positions_BL.shape) != shape:
        return term.sample_losses(student, teacher)
    losses_B = term.sample_losses(torch.where(positions_BL[:, None], student, teacher), teacher)
    return losses_B * positions_BL.shape[1] / positions_BL.sum(dim=1).clamp(min=1)


def check_projects(term: FeatureTerm) -> None:
    """Refuse `project=False` for a term that is made of what it learns."""
    if not term.project:
        raise RecipeError(
            f"`{type(term).__name__}` got project=False and always learns; leave `project` out."
        )


def over_rows(losses_B: Tensor, target: Target, count: Tensor | int) -> Partial:
    """The sum of samples' losses over the rows that count.

    Samples with several rows count once for each; where samples and rows have nothing to do with
    each other, every row counts the mean.
    """
    if target.samples is not None:
        rows_B = torch.bincount(target.samples, target.weights, minlength=len(losses_B))
        return Partial((losses_B * rows_B.to(losses_B.dtype)).sum(), count)
    if len(losses_B) == target.num_rows:
        return Partial(sum_rows(losses_B, target.mask(labels=False)), count)
    return Partial(losses_B.mean() * count, count)


def feature_of(term: ArithmeticTerm, signals: Signals, layer: str, *, of: str) -> Tensor:
    """A layer's output; `HandshakeError` if the model was not asked for it."""
    if layer not in signals.features:
        listed = ", ".join(f"`{name}`" for name in signals.features) or "no layer at all"
        raise HandshakeError(
            f"`{term.name}` needs the {of}'s layer `{layer}` and got {listed}; "
            "name a layer that the model has."
        )
    return signals.features[layer]
