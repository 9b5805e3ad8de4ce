"""Terms that treat the labelled class and the other classes apart: DKD and NKD."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from potstill.functional.divergences import (
    is_target,
    kl,
    other_log_probs,
    other_probs,
    target_split,
)
from potstill.losses.checks import check_number
from potstill.losses.rows import ONE_OF_MANY, RowTerm
from potstill.protocols import Needs

_NEEDS = Needs(
    student_logits=True,
    teacher_logits=True,
    labels=True,
    class_labels=True,
    min_classes=3,
    kinds=ONE_OF_MANY,
)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class DKD(RowTerm):
    r"""Decoupled distillation: the label against the rest, and the rest among itself.

    Formula: $T^2 [\alpha\,\mathrm{KL}(b_t \,\|\, b_s) + \beta\,\mathrm{KL}(\hat p \,\|\, \hat q)]$
        with $b = (p_y, 1 - p_y)$ and hats for the softmax over the classes other than y.
    Shapes: logits `[N, C]` on both sides; labels `[N]` whole numbers.
    Paper: Zhao et al. 2022, arXiv:2203.08679; ImageNet there: β 0.5, temperature 1. The published
        training raises the weight linearly from 0 during the first 20 epochs.
    Requires: labels of one class a row, and three classes (with two the second part is constant).
    Related: with α = 1 and β = 1 - p_y of the teacher it is `KD`. `NKD` does without a β.
    Example: `DKD(alpha=1, beta=8, temperature=4) + CrossEntropy()`

    Args:
        alpha: weight of the label against the rest, 0 or more.
        beta: weight of the rest among itself, 0 or more.
        temperature: T, above 0.
    """

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        check_number(self, "alpha", self.alpha, at_least=0)
        check_number(self, "beta", self.beta, at_least=0)
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """Logits on both sides and class labels."""
        return _NEEDS

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        target_NC = is_target(labels, student_NC.shape[-1])
        student_NC, teacher_NC = student_NC / self.temperature, teacher_NC / self.temperature
        label_N = kl(target_split(student_NC, target_NC), target_split(teacher_NC, target_NC).exp())
        other_N = kl(other_log_probs(student_NC, target_NC), other_probs(teacher_NC, target_NC))
        return self.temperature**2 * (self.alpha * label_N + self.beta * other_N)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class NKD(RowTerm):
    r"""Normalised distillation: a soft cross entropy on the label, another among the rest.

    Formula: $-p_y \log q_y - \gamma T^2 \sum_{c \neq y} \hat p_c \log \hat q_c$; p and q at
        temperature 1, hats for the softmax at T over the classes other than y.
    Shapes: logits `[N, C]` on both sides; labels `[N]` whole numbers.
    Paper: Yang et al. 2023, arXiv:2303.13005.
    Requires: labels of one class a row, and three classes (with two the second part is constant).
    Related: a cross entropy, so it is not 0 where the student equals the teacher; and as the first
        part only ever raises the label, its minimum is not at the teacher. `DKD` has both as
        divergences.
    Example: `NKD() + CrossEntropy()`

    Args:
        gamma: weight of the rest, 0 or more.
        temperature: T of the second part, above 0.
    """

    gamma: float = 1.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "gamma", self.gamma, at_least=0)
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """Logits on both sides and class labels."""
        return _NEEDS

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        target_NC = is_target(labels, student_NC.shape[-1])
        student_label_N = target_split(student_NC, target_NC)[:, 0]
        teacher_label_N = target_split(teacher_NC, target_NC)[:, 0].exp()
        student_other_NC = other_log_probs(student_NC / self.temperature, target_NC)
        teacher_other_NC = other_probs(teacher_NC / self.temperature, target_NC)
        other_N = (teacher_other_NC * student_other_NC).sum(dim=-1)
        return -teacher_label_N * student_label_N - self.gamma * self.temperature**2 * other_N
