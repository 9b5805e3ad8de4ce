"""Several teachers, of which each sample names its own."""

from collections.abc import Callable, Sequence
from typing import Self, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, LazyLogits, Logits, Signals
from potstill.teachers.fingerprints import digest


@final
class Routed(Teacher):
    """Each sample is answered by the teacher that it names: its domain's, its language's.

    Each teacher is asked about its own samples alone, so several cost as much as one. Teachers of
    language models are asked likewise; their logits are put together dense, `[rows, vocabulary]`.

    Args:
        teachers: at least one, with equal classes and equal kinds of logits.
        route: of a batch, which teacher each sample names: `[B]` int64, 0 … K - 1. A function of
            the samples alone.
        key: names what `route` does; part of the fingerprint.
        rows: which sample each row of a batch's answer is about, `[N]` int64; `None` means that
            each sample has one row. (`task.target(batch).samples`.)
        reads_raw: whether `route` reads the inputs before normalisation.

    Raises:
        HandshakeError: the teachers differ in what they answer.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        route: Callable[[Batch], Tensor],
        *,
        key: str,
        rows: Callable[[Batch], Tensor | None] = lambda _batch: None,
        reads_raw: bool = False,
    ) -> None:
        self._teachers, self._route, self._key = tuple(teachers), route, key
        self._rows, self._raw = rows, reads_raw
        kinds = {teacher.offers().logits for teacher in self._teachers}
        kinds -= {LogitKind.LOGPROBS} if LogitKind.RAW in kinds else set()
        if len(kinds) != 1 or not kinds <= set(_DENSE):
            raise HandshakeError(
                "Teachers that samples choose among must answer alike, with logits of all classes "
                f"or with values; these give {', '.join(sorted(str(k) for k in kinds)) or 'none'}."
            )

    @property
    def members(self) -> tuple[Teacher, ...]:
        """The teachers, in order."""
        return self._teachers

    def of(self, teachers: Sequence[Teacher]) -> "Routed":
        """The same choice among other forms of the teachers."""
        return Routed(teachers, self._route, key=self._key, rows=self._rows, reads_raw=self._raw)

    def offers(self) -> Offers:
        """What all of them give."""
        each = [teacher.offers() for teacher in self._teachers]
        kinds = {offered.logits for offered in each}
        classes = {offered.num_classes for offered in each} - {None}
        if len(classes) > 1:
            raise HandshakeError(
                f"The teachers that samples choose among have {sorted(c for c in classes if c)} "
                "classes; give each a label map so that the numbers agree."
            )
        kind = kinds.pop() if len(kinds) == 1 else LogitKind.LOGPROBS
        return Offers(logits=kind, num_classes=next(iter(classes), None))

    def fingerprint(self) -> str:
        """Digest of the teachers', in order, and of the choice."""
        return digest(["routed", *(t.fingerprint() for t in self._teachers), self._key])

    @property
    def reads_raw(self) -> bool:
        """If any teacher does, or the choice."""
        return self._raw or any(teacher.reads_raw for teacher in self._teachers)

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The rows of each sample from the teacher that it names."""
        chosen_B = self._chosen(batch)
        sample_N = self._rows(batch)
        chosen_N = chosen_B if sample_N is None else chosen_B[sample_N]
        values_NC: Tensor | None = None
        for number, teacher in enumerate(self._teachers):
            mine_B = chosen_B == number
            if not bool(mine_B.any()):
                continue
            answer_NC = _dense(teacher.signals(batch.rows(mine_B.nonzero()[:, 0])))
            if values_NC is None:
                values_NC = answer_NC.new_empty(len(chosen_N), answer_NC.shape[-1])
            values_NC[chosen_N == number] = answer_NC
        assert values_NC is not None, "a batch has samples"
        return Signals(logits=Logits(values_NC))

    def _chosen(self, batch: Batch) -> Tensor:
        chosen_B = self._route(batch).to(batch.inputs.device, torch.int64)
        known = (chosen_B >= 0) & (chosen_B < len(self._teachers))
        if chosen_B.shape != (len(batch),) or not bool(known.all()):
            raise HandshakeError(
                f"A sample names its teacher by a number from 0 to {len(self._teachers) - 1}; the "
                f"route gave {sorted(set(chosen_B.tolist()))} for {len(batch)} samples."
            )
        return chosen_B

    def to(self, device: torch.device) -> Self:
        """Move every teacher."""
        for teacher in self._teachers:
            teacher.to(device)
        return self


_DENSE = frozenset({LogitKind.RAW, LogitKind.LOGPROBS, LogitKind.VALUES})


def _dense(signals: Signals) -> Tensor:
    if not isinstance(signals.logits, Logits | LazyLogits):
        raise HandshakeError("Teachers that samples choose among must give all logits.")
    return signals.logits.dense()
