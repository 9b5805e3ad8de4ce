"""The student itself as teacher, with its adapters switched off: one set of weights for both."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import final

import torch
from torch import nn

from potstill.features.taps import layer_names
from potstill.features.tracing import traced
from potstill.protocols import LogitKind, Offers, SeenLayer, Task, Teacher
from potstill.runtime.modes import evaluating
from potstill.signals import Batch, Signals
from potstill.teachers.fingerprints import digest, module_digest


@final
class AdapterOffTeacher(Teacher):
    """What a student with adapters says without them: the base model that it started from.

    It holds the student, so nothing is loaded twice. Its answers do not change while adapters
    train, since the weights beside them are frozen.

    Args:
        student: a model with adapters.
        task: how it is called.
        off: switches the adapters off for a while (`potstill.models.adapters.adapters_off`).
    """

    def __init__(
        self,
        student: nn.Module,
        task: Task,
        *,
        off: Callable[[nn.Module], AbstractContextManager[None]],
    ) -> None:
        self._student, self._task, self._off = student, task, off

    def offers(self) -> Offers:
        """Raw logits and the output of any named layer."""
        return Offers(logits=LogitKind.RAW, layers=tuple(layer_names(self._student)))

    def fingerprint(self) -> str:
        """Digest of the weights that do not train."""
        frozen = nn.ParameterList([p for p in self._student.parameters() if not p.requires_grad])
        return digest(["adapters off", module_digest(frozen), self._task.kind])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """What the base model says, in eval mode and without gradient."""
        with torch.no_grad(), evaluating(self._student), self._off(self._student):
            return self._task.forward(self._student, batch, layers=layers)

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """Every module that runs and gives a tensor."""
        with traced(self._student) as seen:
            self.signals(batch)
        return tuple(seen)
