"""Factor transfer: the student says what a paraphrase of the teacher says.

Shapes: B samples, F features of a factor.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor

from potstill.errors import RecipeError
from potstill.features.factors import Factors
from potstill.features.matcher import Matcher
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_number
from potstill.losses.features import FeatureTerm, check_projects
from potstill.losses.kept import sum_kept
from potstill.losses.layers import feature_of
from potstill.signals import Signals, Target


@final
@dataclass(frozen=True, repr=False)
class FactorTransfer(FeatureTerm):
    r"""A translation of the student's feature follows a paraphrase of the teacher's.

    Formula: $\left\| \frac{F_t}{\|F_t\|_2} - \frac{F_s}{\|F_s\|_2} \right\|_1$, F the factor of a
        sample as one vector. The teacher's is made by a paraphraser, the encoder of an autoencoder
        of its layer (three convolutions), which learns before the student does and is then frozen;
        the student's by a translator (three, with batch normalisation) that learns with it.
    Shapes: maps `[B, D, H, W]`, signals, tokens or vectors, in any combination, as in `Hint`.
    Paper: Kim et al. 2018, arXiv:1802.04977; there β = 500 and, in the authors' code, the mean
        over the F · H · W elements instead of the sum. RepDistiller compares the energy of factors
        at each position instead, which is another loss; MMRazor's is the mean of this one.
    Requires: a teacher whose layers can be read. No labels. `Distiller.fit` shows the paraphraser
        the teacher's answers for so many epochs before step one; with a loop of your own, call
        `Distiller.rehearse(batches)` after `prepare`.
    Related: `Hint` copies the layer itself.
    Example: `CrossEntropy() + FactorTransfer("layer3", "layer3")`

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto": its
            last layer with positions.
        teacher_layer: as many of the teacher, or "auto": the partner of the student's.
        project: true; the translator always learns.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        seed: of the initial weights.
        rate: features of a factor by features of the teacher, above 0.
        paraphraser_epochs: of the training data, for the paraphraser; 0 leaves it random.
        paraphraser_lr: of Adam, for the paraphraser.
    """

    rate: float = field(default=0.5, kw_only=True)
    paraphraser_epochs: int = field(default=5, kw_only=True)
    paraphraser_lr: float = field(default=1e-3, kw_only=True)

    batchwise: ClassVar[bool] = True  # the translator normalises
    always_bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        FeatureTerm.__post_init__(self)
        check_projects(self)
        check_number(self, "rate", self.rate, above=0)
        check_number(self, "paraphraser_epochs", self.paraphraser_epochs, at_least=0)
        check_number(self, "paraphraser_lr", self.paraphraser_lr, above=0)
        if not isinstance(self.paraphraser_epochs, int):
            raise RecipeError(
                f"`FactorTransfer` got paraphraser_epochs={self.paraphraser_epochs!r}; give a "
                "whole number."
            )

    def matcher(self, student: Tensor, teacher: Tensor, *, seed: int) -> Matcher:
        """As in `FeatureTerm`: translator and paraphraser."""
        return Factors(
            student,
            teacher,
            rate=self.rate,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
            seed=seed,
        )

    def rehearsals(self) -> int:
        """The paraphraser's epochs."""
        return self.paraphraser_epochs

    def rehearse(self, taught: Iterable[Signals]) -> None:
        """The paraphraser learns to say again what the teacher's layer says."""
        names = [theirs for _, theirs in self.pairs()]
        learning = [each for each in self.projectors if isinstance(each, Factors)]
        with ExitStack() as lessons:
            learn = [lessons.enter_context(e.rehearsing(lr=self.paraphraser_lr)) for e in learning]
            for signals in taught:
                for each, name in zip(learn, names, strict=True):
                    each(feature_of(self, signals, name, of="teacher"))

    def losses(self, student: Tensor, teacher: Tensor, target: Target, matcher: Matcher) -> Tensor:
        """`[B]`, a sum over the elements of a factor; padding is part of neither factor."""
        units = [_unit(upcast(each), target) for each in (student, teacher)]
        return sum_kept((units[0] - units[1]).abs(), target)


def _unit(factor: Tensor, target: Target) -> Tensor:
    """Each sample's factor with length 1; zero stays zero, with zero gradient."""
    power_B = sum_kept(factor.square(), target).reshape(-1, *[1] * (factor.ndim - 1))
    alive = power_B > 0
    return torch.where(alive, factor * torch.where(alive, power_B, 1).rsqrt(), 0)
