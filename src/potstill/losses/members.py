"""Several teachers at once, each weighed sample by sample and compared over its own classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.divergences import kl, log_softened, softened
from potstill.functional.reductions import keep_rows, sum_rows, upcast
from potstill.functional.uncertainty import relative_entropy
from potstill.losses.checks import check_choice, check_number
from potstill.losses.rows import ONE_OF_MANY
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import LazyLogits, Logits, MemberLogits, Partial, Signals, Target


class Weigh(StrEnum):
    """What a sample's teachers are weighed by."""

    LABELS = "labels"
    CONFIDENCE = "confidence"
    FIXED = "fixed"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class MembersKD(ArithmeticTerm):
    r"""Distillation from several teachers, each over the classes that it knows.

    Formula: $T^2 \sum_k w_{ik}\,\mathrm{KL}(p_{ik} \,\|\, q_{ik})$ with $p_{ik}$ the softmax of
        teacher k's logits at temperature T, and $q_{ik}(c) = e^{z_c / T} / \sum_{c' \in L_k}
        e^{z_{c'} / T}$ the student's over the same classes $L_k$. Weights add up to 1 over the
        teachers. `labels`: $w_{ik} = \frac{1}{K - 1} (1 - e^{\ell_k} / \sum_j e^{\ell_j})$ with
        $\ell_k$ the cross entropy of teacher k (at temperature 1) to the label, over the K teachers
        that know the label's class; the others have weight 0, and one that knows it alone has all.
        `confidence`: $\propto w_k (1 - H(p_{ik}) / \log |L_k|)$; `fixed`: $w_k$. Rows without a
        label, and rows with soft labels, are weighed by confidence.
    Shapes: student logits `[N, C]`; of teacher k `[N, |L_k|]`.
    Paper: Vongkulbhisal et al. 2019 for different classes, arXiv:1904.06062 (the relation $p_i(l) =
        q(l) / \sum_{k \in L_i} q(k)$ and its cross entropy); Zhang, Chen, Wang 2022 for the
        weights by labels, arXiv:2201.00007 (the part on logits).
    Requires: an ensemble, or a union of teachers of different classes, asked live. No labels,
        unless the weights are to be by them.
    Related: with one teacher of all classes it is `KD`; `KD` itself follows what the teachers say
        together. It does not say which teacher's classes a sample is of: with different classes,
        add `CrossEntropy`, or `KD` on what they say together.
    Example: `0.9 * MembersKD(weigh="labels") + 0.1 * CrossEntropy()`

    Args:
        temperature: T, above 0.
        weigh: "labels", "confidence" or "fixed".
    """

    temperature: float = 4.0
    weigh: str = "labels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weigh", check_choice(self, "weigh", self.weigh, Weigh))
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """The student's logits, and the answer of each teacher."""
        return Needs(student_logits=True, teacher_members=True, min_classes=2, kinds=ONE_OF_MANY)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over rows, and their number."""
        if not teacher.members or not isinstance(student.logits, Logits | LazyLogits):
            raise HandshakeError(
                f"`{self.name}` needs the answers of several teachers and got none; give an "
                "ensemble that is asked live (`store: off`), or use `kd`."
            )
        mask_N = target.mask(labels=False)
        student_NC = keep_rows(upcast(student.logits.dense()), mask_N)
        weights_KN = self._weights(teacher.members, target, mask_N)
        losses_N = student_NC.new_zeros(len(student_NC))
        for member, weight_N in zip(teacher.members, weights_KN, strict=True):
            own_NM = _columns(student_NC, member)
            taught_NM = keep_rows(upcast(member.values_NM.detach()), mask_N)
            student_log_NM = log_softened(own_NM, self.temperature)
            divergence_N = kl(student_log_NM, softened(taught_NM, self.temperature))
            losses_N = losses_N + weight_N * divergence_N
        if target.weights is not None:
            losses_N = losses_N * target.weights
        return Partial(self.temperature**2 * sum_rows(losses_N, mask_N), self.count(target))

    def _weights(
        self, members: Sequence[MemberLogits], target: Target, mask_N: Tensor | None
    ) -> Tensor:
        """`[K, N]`, which add up to 1 over the teachers."""
        answers = [keep_rows(upcast(m.values_NM.detach()), mask_N) for m in members]
        fixed_K1 = answers[0].new_tensor([m.weight for m in members])[:, None]
        if self.weigh == Weigh.FIXED:
            return (fixed_K1 / fixed_K1.sum()).expand(-1, len(answers[0]))
        sure = [(1 - relative_entropy(answer)).clamp_min(1e-6) for answer in answers]
        sure_KN = fixed_K1 * torch.stack(sure)
        by_confidence_KN = sure_KN / sure_KN.sum(0)
        labels = target.labels
        if self.weigh == Weigh.CONFIDENCE or labels is None or labels.ndim != 1:
            return by_confidence_KN
        known_N = torch.ones_like(labels, dtype=torch.bool)
        for mask in (target.labelled, mask_N):
            known_N = known_N if mask is None else known_N & mask
        wrong_KN = torch.stack(
            [
                _cross_entropy(answer, member, torch.where(known_N, labels, 0))
                for answer, member in zip(answers, members, strict=True)
            ]
        )
        known_N = known_N & wrong_KN.isfinite().any(0)
        return torch.where(known_N, _by_labels(wrong_KN), by_confidence_KN)


def _columns(student_NC: Tensor, member: MemberLogits) -> Tensor:
    return student_NC if member.classes_M is None else student_NC[:, member.classes_M]


def _cross_entropy(answer_NM: Tensor, member: MemberLogits, labels_N: Tensor) -> Tensor:
    """`[N]`; infinite where the teacher does not know the class."""
    if member.classes_M is None:
        return F.cross_entropy(answer_NM, labels_N, reduction="none")
    is_it_NM = labels_N[:, None] == member.classes_M
    logprobs_NM = answer_NM.log_softmax(-1)
    mine_N = -torch.where(is_it_NM, logprobs_NM, 0).sum(-1)
    return mine_N.masked_fill(~is_it_NM.any(-1), torch.inf)


def _by_labels(wrong_KN: Tensor) -> Tensor:
    """The weights of Zhang et al. 2022 among the teachers that know the label."""
    knows_KN = wrong_KN.isfinite()
    several_N = knows_KN.sum(0)
    blame_KN = wrong_KN.masked_fill(~knows_KN, -torch.inf).softmax(0)
    weights_KN = torch.where(several_N > 1, (1 - blame_KN) / (several_N - 1).clamp_min(1), 1.0)
    return torch.where(knows_KN, weights_KN, 0.0)
