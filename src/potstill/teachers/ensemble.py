"""Several teachers as one."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Self, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.uncertainty import relative_entropy
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, LazyLogits, Logits, MemberLogits, Signals
from potstill.teachers.fingerprints import digest


class Combine(StrEnum):
    """What is averaged over the members."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"


@final
class Ensemble(Teacher):
    r"""The weighted mean of several teachers' answers.

    `probabilities`: $\log \sum_k w_k\,\mathrm{softmax}(z_k)$, the arithmetic mean of Hinton et al.
    2015 (§5.2), offered as log-probabilities (for multi-label answers the mean of the sigmoids, as
    logits). `logits`: $\sum_k w_k z_k$, the geometric mean up to a constant. Regression values are
    averaged as they are.

    Args:
        teachers: at least one, with equal numbers of classes.
        weights: one positive number a teacher; equal if left out. They are normalised to sum 1.
        combine: see above.
        confidence: weigh each sample's answers by how sure each member is of them: $w_{ik} \propto
            w_k\,(1 - H(p_{ik}) / \log C)$, where $H$ is the entropy of the member's answer.
            Weights by the cross entropy to labels (Zhang, Chen, Wang 2022, arXiv:2201.00007) are
            in the term `members_kd`: a teacher that is measured must not see labels.
        multi_label: answers are independent sigmoids.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        *,
        weights: Sequence[float] | None = None,
        combine: Combine | str = Combine.PROBABILITIES,
        confidence: bool = False,
        multi_label: bool = False,
    ) -> None:
        chosen = list(weights) if weights is not None else [1.0] * len(teachers)
        if not teachers or len(chosen) != len(teachers) or min(chosen) <= 0:
            raise HandshakeError(
                f"An ensemble of {len(teachers)} teachers was given weights {chosen}; "
                "it needs at least one teacher and one positive weight for each."
            )
        self._teachers = tuple(teachers)
        self._weights = [w / sum(chosen) for w in chosen]
        self._weights_K11 = torch.tensor(self._weights)[:, None, None]
        self._combine, self._confidence = Combine(combine), confidence
        self._multi_label = multi_label
        kinds = {t.offers().logits for t in teachers}
        self._values = LogitKind.VALUES in kinds
        if (self._values and len(kinds) > 1) or None in kinds or LogitKind.SPARSE in kinds:
            raise HandshakeError(
                "The teachers of an ensemble answer in kinds that cannot be averaged: "
                f"{', '.join(sorted(str(k) for k in kinds))}."
            )

    @property
    def members(self) -> tuple[Teacher, ...]:
        """The teachers, in order."""
        return self._teachers

    def of(self, teachers: Sequence[Teacher]) -> "Ensemble":
        """The same combination of other forms of the teachers."""
        return Ensemble(
            teachers,
            weights=self._weights,
            combine=self._combine,
            confidence=self._confidence,
            multi_label=self._multi_label,
        )

    def offers(self) -> Offers:
        """Log-probabilities, raw logits or values, by what is combined. No features."""
        members = [t.offers() for t in self._teachers]
        classes = {m.num_classes for m in members} - {None}
        if len(classes) > 1:
            raise HandshakeError(
                f"The teachers of an ensemble have {sorted(c for c in classes if c)} classes; "
                "give each a label map so that the numbers agree."
            )
        return Offers(
            logits=self._kind(members),
            num_classes=next(iter(classes), None),
            members=len(members),
        )

    def _kind(self, members: Sequence[Offers]) -> LogitKind:
        if self._values:
            return LogitKind.VALUES
        raw = all(m.logits is LogitKind.RAW for m in members)
        if self._multi_label or (self._combine is Combine.LOGITS and raw):
            return LogitKind.RAW
        return LogitKind.LOGPROBS

    def fingerprint(self) -> str:
        """Digest of the members', in order, and of how they are combined."""
        how = f"{self._weights} {self._combine} {self._confidence} {self._multi_label}"
        return digest([*(t.fingerprint() for t in self._teachers), how])

    @property
    def reads_raw(self) -> bool:
        """If any member does."""
        return any(t.reads_raw for t in self._teachers)

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The combined answer."""
        answers = [_dense(t.signals(batch)) for t in self._teachers]
        widths = sorted({a.shape[-1] for a in answers})
        if len(widths) > 1:
            raise HandshakeError(
                f"The teachers of an ensemble answered with {widths} classes; "
                "give each a label map so that the numbers agree."
            )
        answers_KNC = torch.stack([a.float() for a in answers])
        weights_KN1 = self._sample_weights(answers_KNC)
        members = tuple(
            MemberLogits(answer_NC, weight=weight)
            for answer_NC, weight in zip(answers_KNC, self._weights, strict=True)
        )
        return Signals(logits=Logits(self._mean(answers_KNC, weights_KN1)), members=members)

    def _sample_weights(self, answers_KNC: Tensor) -> Tensor:
        self._weights_K11 = self._weights_K11.to(answers_KNC.device)  # moves once
        weights = self._weights_K11.expand(-1, answers_KNC.shape[1], 1)
        if not self._confidence or self._values:
            return weights
        unsure_KN = relative_entropy(answers_KNC, multi_label=self._multi_label)
        weighted = weights * (1 - unsure_KN).clamp_min(1e-6)[:, :, None]
        return weighted / weighted.sum(0, keepdim=True)

    def _mean(self, answers_KNC: Tensor, weights_KN1: Tensor) -> Tensor:
        if self._values or self._combine is Combine.LOGITS:
            weighted: Tensor = (answers_KNC * weights_KN1).sum(0)
            return weighted
        if self._multi_label:
            return torch.logit((answers_KNC.sigmoid() * weights_KN1).sum(0), eps=1e-7)
        return torch.logsumexp(answers_KNC.log_softmax(-1) + weights_KN1.log(), dim=0)

    def to(self, device: torch.device) -> Self:
        """Move every member."""
        for teacher in self._teachers:
            teacher.to(device)
        return self


def _dense(signals: Signals) -> Tensor:
    if not isinstance(signals.logits, Logits | LazyLogits):
        raise HandshakeError("Every teacher of an ensemble must give logits of all classes.")
    return signals.logits.dense()
