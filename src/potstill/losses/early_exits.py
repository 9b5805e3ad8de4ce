"""Terms on early exits: labels, the deepest exit, or the teacher teach the shallower ones.

Shapes: N rows, C classes, E exits beside the last layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import torch
from torch import Tensor

from potstill.errors import HandshakeError, RecipeError
from potstill.functional.divergences import kl, log_softened, softened
from potstill.functional.reductions import keep_rows, sum_rows, upcast
from potstill.losses.checks import check_choice, check_number
from potstill.losses.labels import CrossEntropy
from potstill.losses.rows import ONE_OF_MANY
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs, Term
from potstill.signals import Logits, Partial, Signals, Target

_DEFAULT = ("exits.0",)


class By(StrEnum):
    """Who teaches the exits."""

    DEEPEST = "deepest"
    TEACHER = "teacher"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class ExitCrossEntropy(ArithmeticTerm):
    r"""Cross entropy between the labels and what each early exit says.

    Formula: $\frac{1}{E} \sum_e -\log q_{e,y}$ with $q_e$ the softmax of exit e; a soft label y is
        $-\sum_c y_c \log q_{e,c}$.
    Shapes: exits `[N, C]`; labels `[N]` whole numbers, or `[N, C]` probabilities.
    Paper: Teerapittayanon, McDanel, Kung 2016, arXiv:1709.01686.
    Requires: a student with exits (`exits: [layer, …]` of its model), and labels. Scratch learns
        with it too, so that its exits can be compared.
    Related: `CrossEntropy` is for the last layer; `ExitKD` lets the deepest exit teach the others.
    Example: `CrossEntropy() + ExitCrossEntropy(exits=("exits.0",))`

    Args:
        exits: their names, `exits.0` …; the last layer is not one of them.
        class_weights: as in `CrossEntropy`.
    """

    exits: tuple[str, ...] = _DEFAULT
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "exits", _names(self, self.exits))
        object.__setattr__(self, "class_weights", self._by_labels().class_weights)

    def _by_labels(self) -> CrossEntropy:
        return CrossEntropy(class_weights=self.class_weights)

    def needs(self) -> Needs:
        """The student's exits, and labels."""
        return Needs(
            student_logits=True,
            labels=True,
            student_layers=self.exits,
            min_classes=2,
            kinds=ONE_OF_MANY,
        )

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over labelled rows of the mean over exits, and their number."""
        exits = _exits(self, student, target)
        if target.labels is None:
            return Partial(exits[0][:0].sum(), 0)
        mask_N = target.mask(labels=True)
        labels = keep_rows(target.labels, mask_N)
        losses = self._by_labels().row_losses
        kept = [keep_rows(exit_NC, mask_N) for exit_NC in exits]
        each = [losses(exit_NC, exit_NC, labels) for exit_NC in kept]
        return Partial(_summed(each, target, mask_N), self.count(target))


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class ExitKD(ArithmeticTerm):
    r"""Distillation into early exits: from the student's own last layer, or from the teacher.

    Formula: $T^2 \frac{1}{E} \sum_e \mathrm{KL}(p \,\|\, q_e)$ with $q_e = \mathrm{softmax}(z_e
        / T)$ of exit e, and p of the last layer, taken as a constant (`deepest`), or of the
        teacher (`teacher`).
    Shapes: exits and logits `[N, C]`.
    Paper: Zhang, Song, Gao, Chen, Bao, Ma 2019, "Be your own teacher", arXiv:1905.08094 (its second
        loss; its third, on features, is not part of this term).
    Requires: a student with exits; with `by="teacher"` a teacher that gives logits. No labels.
    Related: `KD` is for the last layer; `ExitCrossEntropy` learns from labels.
    Example: `CrossEntropy() + ExitCrossEntropy() + ExitKD(temperature=3)`

    Args:
        exits: their names, `exits.0` …; the last layer is not one of them.
        by: "deepest" or "teacher".
        temperature: T, above 0.
    """

    exits: tuple[str, ...] = _DEFAULT
    by: str = "deepest"
    temperature: float = 3.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "exits", _names(self, self.exits))
        object.__setattr__(self, "by", check_choice(self, "by", self.by, By))
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """The student's exits, and its last layer's logits or the teacher's."""
        return Needs(
            student_logits=True,
            teacher_logits=self.by == By.TEACHER,
            student_layers=self.exits,
            min_classes=2,
            kinds=ONE_OF_MANY,
        )

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over rows of the mean over exits, and their number."""
        exits, mask_N = _exits(self, student, target), target.mask(labels=False)
        logits = teacher.logits if self.by == By.TEACHER else student.logits
        if not isinstance(logits, Logits):
            raise HandshakeError(
                f"`{self.name}` needs logits of all classes of the one who teaches."
            )
        taught_NC = keep_rows(upcast(logits.values_NC.detach()), mask_N)
        p_NC = softened(taught_NC, self.temperature)
        each = [
            kl(log_softened(keep_rows(exit_NC, mask_N), self.temperature), p_NC)
            for exit_NC in exits
        ]
        total = self.temperature**2 * _summed(each, target, mask_N)
        return Partial(total, self.count(target))


def trains_exits_on_labels(term: Term) -> bool:
    """Whether a term is one that the control, scratch, needs too."""
    return isinstance(term, ExitCrossEntropy)


def _names(term: Term, exits: object) -> tuple[str, ...]:
    if isinstance(exits, str) or not isinstance(exits, Sequence) or not exits:
        raise RecipeError(f"`{term.name}`: `exits` is {exits!r}; give names such as `exits.0`.")
    return tuple(str(name) for name in exits)


def _exits(term: ArithmeticTerm, student: Signals, target: Target) -> list[Tensor]:
    found = [upcast(student.features[name]) for name in term.needs().student_layers]
    for name, exit_NC in zip(term.needs().student_layers, found, strict=True):
        if exit_NC.ndim != 2 or len(exit_NC) != target.num_rows:
            raise HandshakeError(
                f"`{term.name}` needs logits `[{target.num_rows}, classes]` from `{name}`, got "
                f"{list(exit_NC.shape)}; name an exit of a model with `exits`."
            )
    return found


def _summed(each: Sequence[Tensor], target: Target, mask_N: Tensor | None) -> Tensor:
    losses_N = torch.stack(list(each)).mean(0)
    if target.weights is not None:
        losses_N = losses_N * target.weights
    return sum_rows(losses_N, mask_N)
