"""Teachers that know different classes, as one teacher of all of them."""

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


class Share(StrEnum):
    """How much of a sample's probability a teacher's classes get."""

    FIXED = "fixed"  # its weight
    CONFIDENCE = "confidence"  # its weight times how sure it is
    ENERGY = "energy"  # its weight times the sum of its exponentiated logits


@final
class ClassUnion(Teacher):
    r"""Several teachers, each of some of the student's classes, disjoint or overlapping.

    Together they answer $q(c) = \sum_k s_{ik}\,p_k(c)$ with $p_k$ the softmax of teacher k over its
    own classes (0 elsewhere) and the shares $s_{ik} \propto w_k$ (`fixed`), $\propto w_k (1 -
    H(p_{ik}) / \log M_k)$ (`confidence`) or $\propto w_k \sum_c e^{z_{ik}(c)}$ (`energy`: for
    disjoint classes and equal weights the softmax of all logits side by side, as Luo et al. 2019,
    arXiv:1906.10546, stack them; the energy is that of Liu et al. 2020, arXiv:2010.03759). A
    teacher says nothing of whether a sample is one of its classes at all: that is what the shares
    guess, and what the term `members_kd` leaves out (Vongkulbhisal et al. 2019, arXiv:1904.06062).

    Args:
        teachers: each gives dense logits of its own classes.
        classes: for each teacher, the student's numbers of its classes, in its order.
        num_classes: C, of the student.
        weights: one positive number a teacher; its number of classes if left out.
        share: see `Share`.

    Raises:
        HandshakeError: a class that nobody knows, or that a teacher names twice; wrong weights.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        classes: Sequence[Sequence[int]],
        *,
        num_classes: int,
        weights: Sequence[float] | None = None,
        share: Share | str = Share.FIXED,
    ) -> None:
        self._teachers, self._num_classes = tuple(teachers), num_classes
        self._classes = [list(each) for each in classes]
        _check_classes(self._classes, teachers=len(self._teachers), num_classes=num_classes)
        chosen = [float(len(own)) for own in classes] if weights is None else list(weights)
        if len(chosen) != len(self._teachers) or min(chosen) <= 0:
            raise HandshakeError(
                f"A union of {len(self._teachers)} teachers was given weights {chosen}; it needs "
                "one positive weight for each."
            )
        self._weights = [w / sum(chosen) for w in chosen]
        self._share = Share(share)
        self._classes_M = [torch.tensor(own, dtype=torch.int64) for own in self._classes]
        kinds = {teacher.offers().logits for teacher in self._teachers}
        if not kinds <= {LogitKind.RAW, LogitKind.LOGPROBS}:
            raise HandshakeError(
                "Teachers of different classes must give logits of their own classes; these give "
                f"{', '.join(sorted(str(kind) for kind in kinds))}."
            )
        if self._share is Share.ENERGY and LogitKind.LOGPROBS in kinds:
            raise HandshakeError(
                "Shares by energy need raw logits, and one of the teachers gives "
                "log-probabilities, whose sum is 1 for every sample. Use `confidence`, or fixed "
                "weights."
            )

    @property
    def members(self) -> tuple[Teacher, ...]:
        """The teachers, in order."""
        return self._teachers

    def of(self, teachers: Sequence[Teacher]) -> "ClassUnion":
        """The same union of other forms of the teachers."""
        return ClassUnion(
            teachers,
            self._classes,
            num_classes=self._num_classes,
            weights=self._weights,
            share=self._share,
        )

    def offers(self) -> Offers:
        """Log-probabilities of all classes, and each teacher's own answers."""
        return Offers(
            logits=LogitKind.LOGPROBS,
            num_classes=self._num_classes,
            members=len(self._teachers),
        )

    def fingerprint(self) -> str:
        """Digest of the teachers', in order, of their classes and shares."""
        how = f"{self._classes} {self._num_classes} {self._weights} {self._share}"
        return digest(["union", *(t.fingerprint() for t in self._teachers), how])

    @property
    def reads_raw(self) -> bool:
        """If any teacher does."""
        return any(teacher.reads_raw for teacher in self._teachers)

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The log-probabilities of all classes, and what each teacher said."""
        answers = [self._answer(number, batch) for number in range(len(self._teachers))]
        device = answers[0].device
        self._classes_M = [own.to(device) for own in self._classes_M]  # moves once
        logshares_KN = self._logshares(answers)
        whole_KNC = answers[0].new_full((len(answers), len(answers[0]), self._num_classes), -1e30)
        for number, (answer_NM, own_M) in enumerate(zip(answers, self._classes_M, strict=True)):
            whole_KNC[number, :, own_M] = answer_NM.log_softmax(-1)
        merged_NC = torch.logsumexp(whole_KNC + logshares_KN[:, :, None], dim=0)
        members = tuple(
            MemberLogits(answer_NM, own_M, weight)
            for answer_NM, own_M, weight in zip(
                answers, self._classes_M, self._weights, strict=True
            )
        )
        return Signals(logits=Logits(merged_NC), members=members)

    def _answer(self, number: int, batch: Batch) -> Tensor:
        logits = self._teachers[number].signals(batch).logits
        if not isinstance(logits, Logits | LazyLogits):
            raise HandshakeError("Every teacher of a union must give logits of all its classes.")
        answer_NM, own = logits.dense().float(), self._classes[number]
        if answer_NM.shape[-1] != len(own):
            raise HandshakeError(
                f"Teacher {number + 1} was said to know {len(own)} classes and answers with "
                f"{answer_NM.shape[-1]}; name as many `classes` as it has outputs, or pick some "
                "of its outputs with `label_map`."
            )
        return answer_NM

    def _logshares(self, answers: Sequence[Tensor]) -> Tensor:
        """`[K, N]`, their exponentials add up to 1 over teachers."""
        match self._share:
            case Share.FIXED:
                each = [answer.new_zeros(len(answer)) for answer in answers]
            case Share.CONFIDENCE:
                each = [(1 - relative_entropy(a)).clamp_min(1e-6).log() for a in answers]
            case Share.ENERGY:
                each = [torch.logsumexp(answer, dim=-1) for answer in answers]
        weights_K = torch.tensor(self._weights, device=answers[0].device)
        return (torch.stack(each) + weights_K.log()[:, None]).log_softmax(0)

    def to(self, device: torch.device) -> Self:
        """Move every teacher."""
        for teacher in self._teachers:
            teacher.to(device)
        return self


def _check_classes(classes: Sequence[Sequence[int]], *, teachers: int, num_classes: int) -> None:
    if not teachers or len(classes) != teachers:
        raise HandshakeError(
            f"{teachers} teachers came with {len(classes)} lists of classes; give one for each."
        )
    for number, own in enumerate(classes, start=1):
        wrong = [c for c in own if not 0 <= c < num_classes]
        if not own or wrong or len(set(own)) != len(own):
            raise HandshakeError(
                f"The classes of teacher {number} are {list(own)}; give the numbers of some of the "
                f"student's classes, 0 to {num_classes - 1}, each once."
            )
    unknown = sorted(set(range(num_classes)) - {c for own in classes for c in own})
    if unknown:
        raise HandshakeError(
            f"No teacher knows the classes {unknown} of the student's {num_classes}; add one that "
            "does, or leave the samples of these classes out."
        )
