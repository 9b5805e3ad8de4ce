"""Teachers that change while they teach: averages of the student, peers that learn beside it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import nn

from potstill.features.taps import known_layers
from potstill.features.tracing import traced
from potstill.protocols import LogitKind, Offers, SeenLayer, Task, Teacher
from potstill.runtime.modes import evaluating
from potstill.signals import Batch, Signals
from potstill.teachers.fingerprints import digest, module_digest
from potstill.teachers.module import VALUED

if TYPE_CHECKING:
    from potstill.train.distiller import Distiller

State = dict[str, object]


class GrowingTeacher(Teacher):
    """A teacher that is made by the training that it teaches.

    The distiller calls `join` before the handshake, `plan_steps` when it knows how long the
    training is, and `grow` after each of the student's steps. What `state` gives is in the
    checkpoint, so that a training that was killed ends with the same weights. Its `fingerprint`
    is that of how it grows, not of its weights, which it does not have before.
    """

    @abstractmethod
    def join(self, distiller: "Distiller", batch: Batch) -> None:
        """Get to know the training: its student, task, objective, settings, runtime."""

    def plan_steps(self, total: int) -> None:
        """How many steps of the student there will be."""
        return

    @abstractmethod
    def grow(self, batch: Batch) -> None:
        """Learn, after a step of the student on this batch."""

    def trust(self, step: int) -> float:
        """What the terms that need a teacher are multiplied with at a step, counted from 0."""
        return 1.0

    @property
    @abstractmethod
    def modules(self) -> Mapping[str, nn.Module]:
        """What is kept of it after the training, by role."""

    @abstractmethod
    def state(self) -> State:
        """For a checkpoint."""

    @abstractmethod
    def load(self, state: State) -> None:
        """From a checkpoint."""


@final
class LiveModule(Teacher):
    """A module that trains elsewhere, answering as it is now: in eval mode, without gradient.

    Args:
        module: left as it is, with the training flags that it had.
        task: how it is called.
    """

    def __init__(self, module: nn.Module, task: Task) -> None:
        self._module, self._task = module, task

    def offers(self) -> Offers:
        """Raw logits (or values, or places) and the output of any named layer."""
        layers = tuple(known_layers(self._module))
        if self._task.kind == "boxes":
            return Offers(logits=None, layers=layers, places=True)
        kind = LogitKind.VALUES if self._task.kind in VALUED else LogitKind.RAW
        return Offers(logits=kind, layers=layers)

    def fingerprint(self) -> str:
        """Digest of the weights that it has now."""
        return digest(["live", module_digest(self._module), self._task.kind])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """What the module says now."""
        with torch.no_grad(), evaluating(self._module):
            return self._task.forward(self._module, batch, layers=layers)

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """Every module that runs and gives a tensor."""
        with traced(self._module) as seen:
            self.signals(batch)
        return tuple(seen)
