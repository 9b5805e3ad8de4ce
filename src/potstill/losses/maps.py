"""Terms on maps that compare position by position or channel by channel: PKD, CWD, MGD.

Made for detection and segmentation, where a layer of a feature pyramid is compared, and usable on
any pair of maps or tokens. Shapes: B samples, D features of the teacher's layer, P positions.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, final

from torch import Tensor

from potstill.errors import HandshakeError
from potstill.features.mapped import Masked
from potstill.features.matcher import Matcher
from potstill.features.projectors import Projector
from potstill.functional.maps import channel_kl, standardised_error
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_choice, check_number
from potstill.losses.features import FeatureTerm
from potstill.losses.kept import draws_of, kept_elements, sum_kept
from potstill.losses.layers import positions_of
from potstill.protocols import Needs
from potstill.signals import Target


@dataclass(frozen=True, repr=False)
class _PlaceTerm(FeatureTerm):
    """A term that maps features linearly only where their numbers differ."""

    def matcher(self, student: Tensor, teacher: Tensor, *, seed: int) -> Matcher:
        """As in `FeatureTerm`."""
        return Projector(
            student,
            teacher,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
            seed=seed,
            keep_width=True,
        )


@final
@dataclass(frozen=True, repr=False)
class PKD(_PlaceTerm):
    r"""Correlate with the teacher's map, channel by channel, whatever its scale.

    Formula: $\frac{1}{2}\,\mathrm{mean}\,(\hat s - \hat t)^2 = \mathrm{mean}_d\,(1 - \rho_d)$, hats
        for standardised over samples and positions, channel by channel; ρ is Pearson's correlation.
    Shapes: maps `[B, D, H, W]`, signals, tokens or vectors, as in `Hint`; a linear map is learnt
        only where D differs.
    Paper: Cao et al. 2022, arXiv:2207.02039. Public code (MMRazor) divides by the standard
        deviation with n - 1, which makes 1 - ρ smaller by the factor (n - 1) / n; this is 1 - ρ.
    Requires: a teacher whose layers can be read. No labels.
    Related: `Hint` copies scale and mean, too. `DIST` correlates class probabilities.
    Example: `CrossEntropy() + 6 * PKD("layer3", "layer3")`

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto": its
            last layer with positions.
        teacher_layer: as many of the teacher, or "auto": the partner of the student's.
        project: make a learnable linear map where the numbers of features differ.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        seed: of the linear map's initial weights.
    """

    batchwise: ClassVar[bool] = True

    def losses(self, student: Tensor, teacher: Tensor, target: Target, matcher: Matcher) -> Tensor:
        """`[B]`, the share of each sample in the mean over the batch, times B."""
        return standardised_error(student, teacher, kept_elements(student, target)) / 2


@final
@dataclass(frozen=True, repr=False)
class CWD(_PlaceTerm):
    r"""Attend to the same places as the teacher, in each channel.

    Formula: $\frac{T^2}{D}\sum_d \mathrm{KL}(\phi(t_d / T) \,\|\, \phi(s_d / T))$, φ the softmax
        over the positions of a channel.
    Shapes: maps `[B, D, H, W]`, signals or tokens, as in `Hint`; a linear map is learnt only where
        D differs.
    Paper: Shu et al. 2020, arXiv:2011.13256.
    Requires: layers with more than one position. No labels.
    Related: `PKD` compares channels over the whole batch.
    Example: `CrossEntropy() + 10 * CWD("layer3", "layer3")`

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto": its
            last layer with positions.
        teacher_layer: as many of the teacher, or "auto": the partner of the student's.
        project: make a learnable linear map where the numbers of features differ.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        seed: of the linear map's initial weights.
        temperature: T, above 0.
    """

    temperature: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        FeatureTerm.__post_init__(self)
        check_number(self, "temperature", self.temperature, above=0)

    def matcher(self, student: Tensor, teacher: Tensor, *, seed: int) -> Matcher:
        """As in `FeatureTerm`; refuses layers without positions."""
        made = _PlaceTerm.matcher(self, student, teacher, seed=seed)
        if made.arranged(student, teacher)[1].shape[2:].numel() < 2:
            raise HandshakeError(
                f"`cwd` compares positions, and the teacher's layer gives {list(teacher.shape)}, "
                "which has none; choose a layer before the pooling."
            )
        return made

    def losses(self, student: Tensor, teacher: Tensor, target: Target, matcher: Matcher) -> Tensor:
        """`[B]`, a mean over channels."""
        kept_BP = positions_of(student, target)
        return channel_kl(student, teacher, temperature=self.temperature, kept_BP=kept_BP)


class MaskedBy(StrEnum):
    """What MGD leaves out of a map."""

    POSITIONS = "positions"
    CHANNELS = "channels"


@final
@dataclass(frozen=True, repr=False)
class MGD(_PlaceTerm):
    r"""Fill in the teacher's whole map from a part of the student's.

    Formula: $\sum (t - G(m \odot P(s)))^2$ over all elements of a sample; m leaves a share of the
        positions (or channels) out, G is a 3×3 convolution, a ReLU and another one, which learn.
    Shapes: maps `[B, D, H, W]`, signals, tokens or vectors, as in `Hint`; P is learnt only where D
        differs.
    Paper: Yang et al. 2022, arXiv:2205.01529; weights there: 7e-5 for classification, 2e-5 for
        detection and segmentation. The authors' classification code masks 15 % of the channels
        instead of half of the positions.
    Requires: a teacher whose layers can be read. No labels. The mask follows from the step and the
        place in the batch, so that a run that goes on, or a cut batch, sees the same.
    Related: `Hint` compares what is there.
    Example: `CrossEntropy() + 7e-5 * MGD("layer3", "layer3")`

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto": its
            last layer with positions.
        teacher_layer: as many of the teacher, or "auto": the partner of the student's.
        project: make a learnable linear map where the numbers of features differ.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        seed: of the initial weights and of the masks.
        ratio: the share that is masked, from 0 to below 1.
        masked: "positions" or "channels".
    """

    ratio: float = field(default=0.5, kw_only=True)
    masked: MaskedBy | str = field(default=MaskedBy.POSITIONS, kw_only=True)

    always_bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        FeatureTerm.__post_init__(self)
        check_number(self, "ratio", self.ratio, at_least=0, below=1)
        masked = check_choice(self, "masked", self.masked, MaskedBy)
        object.__setattr__(self, "masked", masked)

    def needs(self) -> Needs:
        """The two layers, and something to draw from."""
        return replace(FeatureTerm.needs(self), chance=True)

    def matcher(self, student: Tensor, teacher: Tensor, *, seed: int) -> Matcher:
        """As in `FeatureTerm`: a projector and the convolutions that fill in."""
        made = Masked(
            student,
            teacher,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
            seed=seed,
        )
        made.is_identity = student.shape == teacher.shape
        return made

    def matched(
        self, matcher: Matcher, student: Tensor, teacher: Tensor, target: Target
    ) -> tuple[Tensor, Tensor]:
        """As in `FeatureTerm`."""
        assert isinstance(matcher, Masked), "`matcher` made it"
        like = matcher.arranged(student[:1], teacher[:1])[1]
        channels = self.masked == MaskedBy.CHANNELS
        shape = (like.shape[1], *[1] * (like.ndim - 2)) if channels else (1, *like.shape[2:])
        drawn = draws_of(target, len(student), seed=self.seed, device=student.device)
        return matcher.filled(student, teacher, drawn.uniform(*shape) >= self.ratio)

    def losses(self, student: Tensor, teacher: Tensor, target: Target, matcher: Matcher) -> Tensor:
        """`[B]`, a sum over the elements that count."""
        return sum_kept((upcast(student) - upcast(teacher)).square(), target)
