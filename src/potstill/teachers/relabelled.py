"""A teacher whose classes are put in the student's order."""

from collections.abc import Sequence
from typing import Self, final

import torch

from potstill.errors import HandshakeError
from potstill.protocols import Offers, SeenLayer, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.fingerprints import digest


@final
class Relabelled(Teacher):
    """`teacher`, with column i of its logits taken from its class `label_map[i]`.

    The way out when a teacher knows more classes than the data (1,000 of ImageNet for a student of
    ten), or the same ones in another order. A softmax over the kept columns is the teacher's
    distribution given that the class is one of them.
    """

    def __init__(self, teacher: Teacher, label_map: Sequence[int]) -> None:
        if not label_map:
            raise HandshakeError(
                "label_map is empty; give the teacher's number for each of the student's classes."
            )
        self._teacher = teacher
        self._map = torch.tensor(list(label_map), dtype=torch.int64)
        offered = teacher.offers().num_classes
        low, high = min(label_map), max(label_map)
        self._highest = high
        if low < 0 or (offered is not None and high >= offered):
            raise HandshakeError(
                f"label_map names teacher classes {low} to {high}, "
                f"the teacher has {offered}: 0 to {offered - 1 if offered else '?'}."
            )

    @property
    def inner(self) -> Teacher:
        """The teacher whose classes are put in order."""
        return self._teacher

    def around(self, teacher: Teacher) -> "Relabelled":
        """The same map around another form of the teacher."""
        return Relabelled(teacher, self._map.tolist())

    def offers(self) -> Offers:
        """As the teacher, with as many classes as the map has entries."""
        inner = self._teacher.offers()
        return Offers(logits=inner.logits, num_classes=len(self._map), layers=inner.layers)

    def fingerprint(self) -> str:
        """The teacher's and the map's."""
        return digest([self._teacher.fingerprint(), str(self._map.tolist())])

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """As the other teacher."""
        return self._teacher.trace(batch)

    @property
    def reads_raw(self) -> bool:
        """As the teacher."""
        return self._teacher.reads_raw

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The teacher's signals, columns chosen by the map."""
        inner = self._teacher.signals(batch, layers=layers)
        if not isinstance(inner.logits, Logits):
            raise HandshakeError("A label map needs a teacher with dense logits.")
        values = inner.logits.values_NC
        if self._highest >= values.shape[-1]:
            raise HandshakeError(
                f"label_map names teacher class {self._highest}, "
                f"the teacher has {values.shape[-1]}: 0 to {values.shape[-1] - 1}."
            )
        self._map = self._map.to(values.device)
        return Signals(
            logits=Logits(values.index_select(-1, self._map)),
            features=inner.features,
            embedding=inner.embedding,
        )

    def to(self, device: torch.device) -> Self:
        """Move the teacher and the map."""
        self._teacher.to(device)
        self._map = self._map.to(device)
        return self
