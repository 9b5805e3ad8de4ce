"""Class scores of two detectors at the same places."""

from dataclasses import dataclass
from enum import StrEnum
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.losses.boxes import PlaceTerm
from potstill.losses.checks import check_choice, check_number
from potstill.signals import Places


class Focus(StrEnum):
    """Which places count how much."""

    TEACHER = "teacher"  # as sure as the teacher is that anything is there
    DIFFERENCE = "difference"  # as far as the two are apart
    ALL = "all"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class PlaceKD(PlaceTerm):
    r"""Class scores at each place follow the teacher's, where it sees something.

    Formula: $\sum_a w_a \ell_a / \sum_a w_a$. With one sigmoid a class,
        $\ell_a = \tau^2 \sum_c \mathrm{KL}_2(\sigma(z_t^c / \tau) \| \sigma(z_s^c / \tau))$; with
        one softmax (and a column for nothing), $\tau^2\,\mathrm{KL}$ of the two. $w_a$ is the
        teacher's certainty that anything is there (focus "teacher"), $\max_c |p_t^c - p_s^c|$
        ("difference"), or 1 ("all").
    Shapes: scores `[B, A, C]` (softmax: `[B, A, C + 1]`), the same places on both sides.
    Paper: Yang et al. 2023 for one sigmoid a class and the weight by difference, arXiv:2308.14286;
        Hinton et al. 2015 for τ, arXiv:1503.02531.
    Requires: a teacher that detects, with the student's places and classes. No labels.
    Related: `BoxKD` and `LocalizationKD` for where; `PseudoBoxes` for other families.
    Example: `DetectionLoss() + 4 * PlaceKD()`

    Args:
        temperature: τ.
        focus: "teacher", "difference" or "all".
    """

    temperature: float = 1.0
    focus: Focus | str = Focus.TEACHER

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)
        object.__setattr__(self, "focus", check_choice(self, "focus", self.focus, Focus))

    def unlike(self, student: Places, teacher: Places) -> str:
        """Scores of another kind or number."""
        if student.exclusive != teacher.exclusive:
            return "compares one softmax with single sigmoids here; use detectors of one family."
        if student.scores_BAC.shape != teacher.scores_BAC.shape:
            return (
                f"needs the same classes, got {student.num_classes} and {teacher.num_classes}; "
                "train the teacher on these data."
            )
        return ""

    def weights(self, student: Places, teacher: Places) -> Tensor:
        """As in `PlaceTerm`."""
        if self.focus == Focus.TEACHER:
            return teacher.presence()
        if self.focus == Focus.ALL:
            return torch.ones_like(teacher.scores_BAC[..., 0])
        said, taught = (
            p.scores_BAC.softmax(-1) if p.exclusive else p.scores_BAC.sigmoid()
            for p in (student, teacher)
        )
        return (said - taught).abs().amax(dim=-1)

    def place_losses(self, student: Places, teacher: Places) -> Tensor:
        """As in `PlaceTerm`."""
        said = student.scores_BAC.float() / self.temperature
        taught = teacher.scores_BAC.detach().float() / self.temperature
        if student.exclusive:
            log_t = taught.log_softmax(-1)
            losses_BA = (log_t.exp() * (log_t - said.log_softmax(-1))).sum(dim=-1)
        else:
            on, off = F.logsigmoid(taught), F.logsigmoid(-taught)
            kl = on.exp() * (on - F.logsigmoid(said)) + off.exp() * (off - F.logsigmoid(-said))
            losses_BA = kl.sum(dim=-1)
        return self.temperature**2 * losses_BA
