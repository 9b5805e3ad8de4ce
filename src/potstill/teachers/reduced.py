"""A teacher of embeddings whose vectors are turned onto their main directions and cut."""

from collections.abc import Iterable, Sequence
from typing import Self, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.similarity import principal_directions
from potstill.protocols import Offers, SeenLayer, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.fingerprints import digest


@final
class Reduced(Teacher):
    """Another teacher's embeddings in fewer features: `embedding @ directions`.

    Args:
        teacher: gives embeddings `[B, E]`.
        directions_ED: orthonormal columns, see `directions_of`.
    """

    def __init__(self, teacher: Teacher, directions_ED: Tensor) -> None:
        self.teacher, self.directions_ED = teacher, directions_ED

    def offers(self) -> Offers:
        """What the other teacher gives, in other numbers."""
        return self.teacher.offers()

    def fingerprint(self) -> str:
        """Digest of the other teacher's and the directions."""
        values = self.directions_ED.cpu().numpy().tobytes().hex()
        return digest([self.teacher.fingerprint(), values])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The other teacher's signals, their embeddings reduced."""
        said = self.teacher.signals(batch, layers=layers)
        whole_BE = _embeddings(said)
        reduced_BD = whole_BE.float() @ self.directions_ED.to(whole_BE.device)
        return Signals(logits=Logits(reduced_BD), features=said.features)

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """As the other teacher."""
        return self.teacher.trace(batch)

    @property
    def reads_raw(self) -> bool:
        """As the other teacher."""
        return self.teacher.reads_raw

    def to(self, device: torch.device) -> Self:
        """Move the other teacher."""
        self.teacher.to(device)
        return self


def directions_of(teacher: Teacher, batches: Iterable[Batch], width: int) -> Tensor:
    """`[E, width]`: the main directions of a teacher's embeddings of some batches.

    Raises:
        HandshakeError: the embeddings have fewer features, or there are fewer texts.
    """
    said_NE = torch.cat([_embeddings(teacher.signals(batch)).cpu().float() for batch in batches])
    if width > min(said_NE.shape):
        raise HandshakeError(
            f"{len(said_NE)} embeddings of {said_NE.shape[1]} features have no {width} main "
            "directions; ask for fewer, or give more texts."
        )
    return principal_directions(said_NE, width)


def _embeddings(said: Signals) -> Tensor:
    if not isinstance(said.logits, Logits):
        raise HandshakeError("The teacher gives no embeddings; use one of the task `embedding`.")
    return said.logits.values_NC
