"""Variational information: the student's features predict the teacher's, with a variance.

Shapes: B samples, D features of the teacher's layer.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.features.mapped import Mapped, conv
from potstill.features.matcher import Matcher
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_number
from potstill.losses.features import FeatureTerm, check_projects
from potstill.losses.layers import positions_of
from potstill.signals import Target

_SMALLEST: Final = 1e-5  # variance, as in the authors' code


@final
@dataclass(frozen=True, repr=False)
class VID(FeatureTerm):
    r"""Maximise a bound on the information that the student's layer has about the teacher's.

    Formula: $\mathrm{mean}\,\frac{1}{2}\left[\frac{(t - \mu(s))^2}{\sigma_d^2} + \ln \sigma_d^2
        \right]$, $\sigma_d^2 = \ln(1 + e^{\alpha_d}) + 10^{-5}$, one α for each feature of the
        teacher; μ is three 1×1 convolutions with ReLU between them. α and μ learn.
    Shapes: maps `[B, D, H, W]`, signals, tokens or vectors, in any combination, as in `Hint`.
    Paper: Ahn et al. 2019, arXiv:1904.05835.
    Requires: a teacher whose layers can be read. No labels.
    Related: `Hint` is the case of one variance for all features. May be below 0.
    Example: `CrossEntropy() + VID("layer2", "layer2") + VID("layer3", "layer3")`

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto": its
            last layer with positions.
        teacher_layer: as many of the teacher, or "auto": the partner of the student's.
        project: true; the prediction always learns.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        seed: of the initial weights.
        variance: that training starts with, above 1e-5.
    """

    variance: float = field(default=5.0, kw_only=True)

    always_bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        FeatureTerm.__post_init__(self)
        check_projects(self)
        check_number(self, "variance", self.variance, above=_SMALLEST)

    def matcher(self, student: Tensor, teacher: Tensor, *, seed: int) -> Matcher:
        """As in `FeatureTerm`: μ and α."""
        made = Mapped(
            student,
            teacher,
            _predictor,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
            seed=seed,
        )
        start = math.log(math.expm1(self.variance - _SMALLEST))
        made.spread = nn.Parameter(torch.full((made.width,), start, device=student.device))
        return made

    def losses(self, student: Tensor, teacher: Tensor, target: Target, matcher: Matcher) -> Tensor:
        """`[B]`, a mean over features and over positions that are no padding."""
        alpha = matcher.spread
        assert isinstance(alpha, Tensor), "a parameter"
        variance_D = F.softplus(upcast(alpha)) + _SMALLEST
        variance = variance_D.reshape(1, -1, *[1] * (student.ndim - 2))
        squares = (upcast(student) - upcast(teacher)).square()
        losses = (squares / variance + variance.log()).mean(dim=1) / 2
        positions_BL = positions_of(student, target)
        if positions_BL is None:
            return losses.reshape(len(losses), -1).mean(dim=1)
        kept = torch.where(positions_BL, losses, 0)
        return kept.sum(dim=1) / positions_BL.sum(dim=1).clamp(min=1)


def _predictor(num_student: int, num_teacher: int, rank: int) -> nn.Module:
    return nn.Sequential(
        conv(rank, num_student, num_teacher, bias=False),
        nn.ReLU(),
        conv(rank, num_teacher, num_teacher, bias=False),
        nn.ReLU(),
        conv(rank, num_teacher, num_teacher, bias=False),
    )
