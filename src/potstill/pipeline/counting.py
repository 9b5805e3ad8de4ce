"""A teacher that counts how often it is asked."""

from collections.abc import Sequence
from typing import Self, final

import torch

from potstill.protocols import Offers, SeenLayer, Teacher
from potstill.signals import Batch, Signals


@final
class CountedTeacher(Teacher):
    """Another teacher, and how many samples it was asked about.

    Args:
        teacher: who answers.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.asked = 0

    def offers(self) -> Offers:
        """As the teacher."""
        return self._teacher.offers()

    def fingerprint(self) -> str:
        """As the teacher."""
        return self._teacher.fingerprint()

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """As the teacher; counted."""
        self.asked += len(batch)
        return self._teacher.signals(batch, layers=layers)

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """As the teacher."""
        return self._teacher.trace(batch)

    @property
    def reads_raw(self) -> bool:
        """As the teacher."""
        return self._teacher.reads_raw

    def to(self, device: torch.device) -> Self:
        """The teacher moves."""
        self._teacher = self._teacher.to(device)
        return self
