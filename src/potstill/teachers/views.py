"""A teacher that looks at every input several times."""

from collections.abc import Callable, Sequence
from typing import Self, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError, RecipeError
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.fingerprints import digest

Look = Callable[[Batch, int], Batch]


@final
class ViewAverage(Teacher):
    r"""The mean of a teacher's answers over an input and augmented views of it.

    Test-time augmentation: $z(x) = \frac{1}{V + 1} \sum_{v=0}^{V} z_t(a_v(x))$ with $a_0$ the
    identity. A mean of logits is the normalised geometric mean of the distributions, at every
    temperature; of regression values it is the plain mean. It costs V + 1 forward passes, once if
    the answers are stored.

    Args:
        teacher: what is asked; it gives dense logits or values.
        look: a batch and a view's number, 1 … V, to the same samples seen in that way. A pure
            function of the samples and the number.
        views: V, 1 or more.
        key: names what `look` does; part of the fingerprint.

    Raises:
        RecipeError: fewer than one view.
        HandshakeError: the teacher gives sparse answers, of which there is no mean.
    """

    def __init__(self, teacher: Teacher, look: Look, *, views: int, key: str) -> None:
        if views < 1:
            raise RecipeError(f"A teacher is averaged over 1 view or more, got {views}.")
        if teacher.offers().logits is LogitKind.SPARSE:
            raise HandshakeError(
                "A teacher that keeps only some classes cannot be averaged over views; "
                "average the live teacher and store the mean."
            )
        self._teacher, self._look, self._views, self._key = teacher, look, views, key

    @property
    def inner(self) -> Teacher:
        """The teacher that is asked."""
        return self._teacher

    def around(self, teacher: Teacher) -> "ViewAverage":
        """The same views around another form of the teacher."""
        return ViewAverage(teacher, self._look, views=self._views, key=self._key)

    def offers(self) -> Offers:
        """As the teacher, without its layers: the mean of features of moved images means little."""
        inner = self._teacher.offers()
        return Offers(logits=inner.logits, num_classes=inner.num_classes)

    def fingerprint(self) -> str:
        """The teacher's, the views' and their number."""
        return digest([self._teacher.fingerprint(), self._key, str(self._views)])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The mean logits `[N, C]`."""
        total = self._values(batch)
        for number in range(1, self._views + 1):
            total = total + self._values(self._look(batch, number))
        return Signals(logits=Logits(total / (self._views + 1)))

    def _values(self, batch: Batch) -> Tensor:
        said = self._teacher.signals(batch).logits
        if not isinstance(said, Logits):
            raise HandshakeError("A mean over views needs a teacher with dense logits.")
        return said.values_NC.float()

    def to(self, device: torch.device) -> Self:
        """Move the teacher."""
        self._teacher.to(device)
        return self
