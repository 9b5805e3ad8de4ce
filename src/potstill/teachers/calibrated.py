"""A teacher whose confidence is corrected: its logits are divided by one temperature."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.protocols import LogitKind, Offers, SeenLayer, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.fingerprints import digest


@final
class Calibrated(Teacher):
    """Equivalent to the teacher with `logits / temperature`; its classes stay the same.

    Paper: Guo et al. 2017, arXiv:1706.04599, section 4.2.

    Args:
        teacher: with dense logits.
        temperature: above 1 for a teacher that is too sure; see `best_temperature`.

    Raises:
        HandshakeError: the teacher has no logits of all classes.
    """

    def __init__(self, teacher: Teacher, temperature: float) -> None:
        kind = teacher.offers().logits
        if kind not in (LogitKind.RAW, LogitKind.LOGPROBS):
            raise HandshakeError(
                f"This teacher gives {'no logits' if kind is None else kind}, which cannot be "
                "calibrated; leave `teacher.calibrate` out."
            )
        self.teacher, self.temperature = teacher, temperature

    @property
    def inner(self) -> Teacher:
        """The teacher whose logits are divided."""
        return self.teacher

    def around(self, teacher: Teacher) -> "Calibrated":
        """The same temperature around another form of the teacher."""
        return Calibrated(teacher, self.temperature)

    def offers(self) -> Offers:
        """What the teacher offers; of several, only what they say together is calibrated."""
        return replace(self.teacher.offers(), members=0)

    def fingerprint(self) -> str:
        """Of the teacher and the temperature."""
        return digest(["calibrated", self.teacher.fingerprint(), repr(self.temperature)])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The teacher's, with calmer logits; layers are as they are."""
        said = self.teacher.signals(batch, layers=layers)
        assert isinstance(said.logits, Logits), "as its kind says"
        return replace(said, logits=Logits(said.logits.values_NC / self.temperature), members=())

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """As the teacher."""
        return self.teacher.trace(batch)

    @property
    def reads_raw(self) -> bool:
        """As the teacher."""
        return self.teacher.reads_raw

    def to(self, device: torch.device) -> Self:
        """Move the teacher."""
        self.teacher.to(device)
        return self


def best_temperature(logits_NC: Tensor, labels_N: Tensor) -> float:
    """The T above 0 that minimises the cross entropy of `logits / T` with the labels.

    The cross entropy is convex in 1 / T, so bisection on its derivative finds the minimum; T stays
    within 1/4 … 20 (a teacher without a mistake would be made ever surer).
    """
    logits_NC = logits_NC.double()
    right_N = logits_NC.gather(1, labels_N[:, None])[:, 0]

    def slope(inverse: float) -> float:
        expected_N = ((inverse * logits_NC).softmax(-1) * logits_NC).sum(-1)
        return float((expected_N - right_N).mean())

    low, high = 0.05, 4.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(1 / (low * high) ** 0.5)


def cross_entropy(logits_NC: Tensor, labels_N: Tensor) -> float:
    """Mean in nats, to compare before and after."""
    return float(F.cross_entropy(logits_NC.double(), labels_N))
