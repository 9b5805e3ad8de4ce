"""Activation boundaries: which neurons are on.

Shapes: B samples, D features of the teacher's layer.
"""

from dataclasses import dataclass, field
from typing import ClassVar, final

from torch import Tensor, nn

from potstill.features.mapped import Mapped, conv, norm
from potstill.features.matcher import Matcher
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_number
from potstill.losses.features import FeatureTerm
from potstill.losses.kept import sum_kept
from potstill.signals import Target


@final
@dataclass(frozen=True, repr=False)
class ActivationBoundaries(FeatureTerm):
    r"""Be on where the teacher is on, and off where it is off, by a margin.

    Formula: $\sum [t > 0]\,\max(0, m - r(s))^2 + [t \le 0]\,\max(0, m + r(s))^2$ over all elements
        of a sample; r is a 1×1 convolution and batch normalisation where the shapes differ.
    Shapes: maps `[B, D, H, W]`, signals, tokens or vectors, in any combination, as in `Hint`.
    Paper: Heo et al. 2018, arXiv:1811.03233. There the term alone trains the student's body first,
        and labels follow; here it stands beside other terms. Public code (RepDistiller) multiplies
        by 0.003 and halves the weight from each layer to the one before; the weight is yours.
    Requires: a teacher whose layers can be read, best before their ReLU (after it, 0 is off). No
        labels.
    Related: `Hint` copies how strongly neurons answer.
    Example: `CrossEntropy() + 0.003 * ActivationBoundaries("layer3", "layer3")`

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto": its
            last layer with positions.
        teacher_layer: as many of the teacher, or "auto": the partner of the student's.
        project: make the learnable connector r where the shapes differ.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        seed: of r's initial weights.
        margin: m, above 0.
    """

    margin: float = field(default=1.0, kw_only=True)

    batchwise: ClassVar[bool] = True  # where the connector normalises

    def __post_init__(self) -> None:
        FeatureTerm.__post_init__(self)
        check_number(self, "margin", self.margin, above=0)

    def matcher(self, student: Tensor, teacher: Tensor, *, seed: int) -> Matcher:
        """As in `FeatureTerm`: the connector, where it is needed."""
        plain = FeatureTerm.matcher(self, student, teacher, seed=seed)
        if plain.is_identity:
            return plain
        return Mapped(
            student,
            teacher,
            _connector,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
            seed=seed,
        )

    def losses(self, student: Tensor, teacher: Tensor, target: Target, matcher: Matcher) -> Tensor:
        """`[B]`, a sum over the elements that count."""
        sign = (teacher > 0).to(upcast(student).dtype) * 2 - 1
        return sum_kept((self.margin - sign * upcast(student)).clamp(min=0).square(), target)


def _connector(num_student: int, num_teacher: int, rank: int) -> nn.Module:
    mapped = conv(rank, num_student, num_teacher, bias=False)
    return nn.Sequential(mapped, norm(rank, num_teacher))
