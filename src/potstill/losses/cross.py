"""Terms for teachers with another tokenizer: KL where tokens are common, sorted L1 for the rest."""

from dataclasses import dataclass
from enum import StrEnum
from typing import final

from torch import Tensor

from potstill.functional.divergences import jsd, kl, log_softened, reverse_kl
from potstill.functional.foreign import Joined, bins, sorted_distance
from potstill.losses.checks import check_choice, check_number
from potstill.losses.foreign import ForeignTerm
from potstill.losses.rows import ONE_OF_MANY
from potstill.protocols import Needs
from potstill.signals import CommonTokens

_NEEDS = Needs(
    student_logits=True,
    teacher_logits=True,
    foreign_teacher=True,
    min_classes=2,
    kinds=ONE_OF_MANY,
)


class Divergence(StrEnum):
    """How distributions over the bins are compared."""

    KL = "kl"
    REVERSE_KL = "reverse_kl"
    JSD = "jsd"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class CrossTokenizerKD(ForeignTerm):
    r"""Distillation from a teacher with another tokenizer, span by span of equal bytes.

    Formula: $T^2 [w\,D(\hat p \,\|\, \hat q)
        + (1 - w) \sum_i |\mathrm{sort}(p_R)_i - \mathrm{sort}(q_R)_i|]$ with $\hat p$, $\hat q$
        over the common tokens, one bin for all others and one for a span that is no common token;
        R are the tokens that are not common; w is the share of the student's tokens that are. A
        span of several tokens has the product of their probabilities.
    Shapes: student logits `[N, C]`, teacher logits `[M, V]`; rows that begin no span count with 0.
    Paper: Boizard et al. 2024, arXiv:2402.12030, for the sorted part.
    Requires: a teacher brought to the student's rows (`CrossTokenizer`), or one with its tokens. No
        labels.
    Related: with the same tokens it is `KD` (or `ReverseKL`, `JSD`), value and gradient. `ULD`
        has the sorted part alone.
    Example: `CrossTokenizerKD() + 0.5 * CrossEntropy()`

    Args:
        temperature: T, above 0, of all tokens of a span.
        divergence: "kl", "reverse_kl" or "jsd" (at β = 0.5) over the bins.
        common_weight: w, from 0 to 1; left out, the share of the student's tokens that are common.
    """

    temperature: float = 1.0
    divergence: str = "kl"
    common_weight: float | None = None

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)
        chosen = check_choice(self, "divergence", self.divergence, Divergence)
        object.__setattr__(self, "divergence", chosen)
        if self.common_weight is not None:
            check_number(self, "common_weight", self.common_weight, at_least=0, at_most=1)

    def needs(self) -> Needs:
        """Logits on both sides; the teacher's may be of other tokens."""
        return _NEEDS

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`, for a teacher with the student's tokens."""
        pair = (log_softened(z, self.temperature) for z in (student_NC, teacher_NC))
        return self.temperature**2 * self._divergence(*pair)

    def compared(
        self,
        student_FC: Tensor,
        teacher_FV: Tensor,
        common: CommonTokens,
        joined: tuple[Joined, Joined] | None,
    ) -> Tensor:
        """As in `ForeignTerm`."""
        both = len(common.student_rest) > 0 and len(common.teacher_rest) > 0
        mine, theirs = joined or (None, None)
        student_FB, student_FR = bins(
            student_FC, common.student_ids_J, common.student_rest, mine, with_rest=both
        )
        teacher_FB, teacher_FS = bins(
            teacher_FV, common.teacher_ids_J, common.teacher_rest, theirs, with_rest=both
        )
        weight = common.overlap if self.common_weight is None else self.common_weight
        losses_F = weight * self._divergence(student_FB, teacher_FB)
        if both and weight < 1:
            rest_F = sorted_distance(student_FR.exp(), teacher_FS.exp())
            losses_F = losses_F + (1 - weight) * rest_F
        return losses_F

    def _divergence(self, student_log_NB: Tensor, teacher_log_NB: Tensor) -> Tensor:
        if self.divergence == Divergence.REVERSE_KL:
            return reverse_kl(student_log_NB, teacher_log_NB)
        if self.divergence == Divergence.JSD:
            return jsd(student_log_NB, teacher_log_NB, beta=0.5)
        return kl(student_log_NB, teacher_log_NB.exp())


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class ULD(ForeignTerm):
    r"""Universal logit distillation: probabilities are compared by rank, not by token.

    Formula: $T^2 \sum_i |\mathrm{sort}(p)_i - \mathrm{sort}(q)_i|$, the shorter one filled up with
        zeros, in rows where both models have read the same bytes.
    Shapes: student logits `[N, C]`, teacher logits `[M, V]`; rows that begin no span count with 0.
    Paper: Boizard et al. 2024, arXiv:2402.12030.
    Requires: a teacher brought to the student's rows (`CrossTokenizer`), or one with its tokens. No
        labels.
    Related: it does not know which token is which: a student that is sure of the wrong token has no
        loss beside a teacher that is as sure of the right one. Use it beside `CrossEntropy`, as the
        paper does; `CrossTokenizerKD` compares what can be compared by name.
    Example: `CrossEntropy() + 1.5 * ULD()`

    Args:
        temperature: T, above 0.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """Logits on both sides; the teacher's may be of other tokens."""
        return _NEEDS

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`, for a teacher with the student's tokens."""
        pair = (log_softened(z, self.temperature).exp() for z in (student_NC, teacher_NC))
        return self.temperature**2 * sorted_distance(*pair)

    def compared(
        self,
        student_FC: Tensor,
        teacher_FV: Tensor,
        common: CommonTokens,
        joined: tuple[Joined, Joined] | None,
    ) -> Tensor:
        """As in `ForeignTerm`; spans of several tokens have the distribution at their start."""
        return sorted_distance(student_FC.exp(), teacher_FV.exp())
