"""Terms on the blocks of transformers: pairs at one depth, and what the blocks hand on.

Shapes: B samples, L positions, D features. Blocks are named as in
`potstill.features.blocks`; padding (`Target.positions`) never counts.
"""

from dataclasses import dataclass, field, replace
from typing import Self, final

from potstill.errors import HandshakeError, RecipeError
from potstill.features.pairing import AUTO
from potstill.features.projectors import Projector
from potstill.losses.checks import check_choice, check_flag
from potstill.losses.features import Distance, Hint
from potstill.losses.layers import feature_of
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import Partial, Signals, Target

LAST = "blocks.-1"


@dataclass(frozen=True, repr=False)
class BlockTerm(ArithmeticTerm):
    """A term on pairs of blocks that lie at the same depth.

    Args:
        layers: how many pairs, evenly spaced and ending with the last block of both models; 1 is
            the last blocks alone, 3 pairs the blocks after one, two and three thirds.
        student_layer: another block of the student, where there is one pair.
        teacher_layer: another block of the teacher, where there is one pair.
    """

    layers: int = field(default=1, kw_only=True)
    student_layer: str = field(default=LAST, kw_only=True)
    teacher_layer: str = field(default=LAST, kw_only=True)

    def __post_init__(self) -> None:
        for side in ("student_layer", "teacher_layer"):
            if getattr(self, side) == AUTO:  # blocks are paired by depth as it is
                object.__setattr__(self, side, LAST)
        if isinstance(self.layers, bool) or not isinstance(self.layers, int) or self.layers < 1:
            raise RecipeError(
                f"`{type(self).__name__}` got layers={self.layers!r}; give the number of pairs of "
                "blocks, 1 or more."
            )
        named = {self.student_layer, self.teacher_layer} != {LAST}
        if self.layers > 1 and named:
            raise RecipeError(
                f"`{type(self).__name__}` got layers={self.layers} and the name of a block; give "
                "one of the two, and for several named pairs a term each."
            )

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The names of the student's and the teacher's blocks."""
        if self.layers == 1:
            return ((self.student_layer, self.teacher_layer),)
        depths = [f"blocks.{share}/{self.layers}" for share in range(1, self.layers + 1)]
        return tuple((depth, depth) for depth in depths)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class HiddenStates(BlockTerm):
    r"""Hand on what the teacher's blocks hand on, through one learnable projector.

    Formula: $\sum_\ell \mathrm{mean}\,(W h^s_\ell - h^t_\ell)^2$ over features and positions that
        are no padding, or with "cosine" $1 - \cos(W h^s_\ell, h^t_\ell)$; ℓ runs over pairs of
        blocks, with `embeddings` over what goes into the first ones too. W only where widths
        differ.
    Shapes: `[B, L, D]`; D may differ between the models.
    Paper: Jiao et al. 2019, arXiv:1909.10351 (TinyBERT, equations 8 and 9); with "cosine" on the
        last block: Sanh et al. 2019, arXiv:1910.01108 (DistilBERT).
    Requires: two encoders made of blocks. No labels.
    Related: `Hint` for one pair of layers of any kind and name.
    Example: `5 * KD(temperature=2) + 2 * CrossEntropy() + HiddenStates(distance="cosine")`

    Args:
        distance: "squared_error" or "cosine".
        embeddings: compare what goes into the first blocks, too.
        seed: of the projector's initial weights.
        layers: how many pairs of blocks, evenly spaced and ending with the last ones.
        student_layer: another block than the student's last one.
        teacher_layer: another block than the teacher's last one.
    """

    distance: Distance | str = Distance.SQUARED_ERROR
    embeddings: bool = False
    seed: int = 0
    projector: Projector | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        BlockTerm.__post_init__(self)
        check_flag(self, "embeddings", self.embeddings)
        distance = check_choice(self, "distance", self.distance, Distance)
        object.__setattr__(self, "distance", distance)

    def needs(self) -> Needs:
        """All pairs of layers."""
        hints = self._hints()
        return Needs(
            student_layers=tuple(mine for hint in hints for mine, _ in hint.pairs()),
            teacher_layers=tuple(theirs for hint in hints for _, theirs in hint.pairs()),
        )

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over pairs and samples, and how many rows count."""
        partials = [hint(student, teacher, target) for hint in self._hints()]
        total = partials[0].total
        for partial in partials[1:]:
            total = total + partial.total
        return Partial(total, partials[0].count)

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with one projector for all pairs.

        Raises:
            HandshakeError: a layer is missing, or the pairs differ in their widths.
        """
        widths = {
            (
                feature_of(self, student, mine, of="student").shape[-1],
                feature_of(self, teacher, theirs, of="teacher").shape[-1],
            )
            for hint in self._hints()
            for mine, theirs in hint.pairs()
        }
        if len(widths) > 1:
            listed = ", ".join(f"{mine} → {theirs}" for mine, theirs in sorted(widths))
            raise HandshakeError(
                f"`{self.name}` has one projector and the pairs of layers have the widths "
                f"{listed}; give the odd pair a `hint` of its own."
            )
        bound = replace(self)
        (made,) = self._hints()[-1].bind(student, teacher).projectors
        object.__setattr__(bound, "projector", made)
        return bound

    def parts(self) -> Projector | None:
        """The projector, once bound and where the widths differ."""
        if self.projector is None or self.projector.is_identity:
            return None
        return self.projector

    def _hints(self) -> tuple[Hint, ...]:
        pairs = self.pairs()
        if self.embeddings:
            pairs = (("embeddings", "embeddings"), *pairs)
        hints = tuple(
            Hint(mine, theirs, distance=self.distance, seed=self.seed) for mine, theirs in pairs
        )
        if self.projector is not None:
            for hint in hints:
                object.__setattr__(hint, "projectors", (self.projector,))
        return hints
