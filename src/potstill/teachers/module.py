"""A torch module as teacher."""

from collections.abc import Sequence
from typing import Self, final

import torch
from torch import nn

from potstill.features.taps import known_layers
from potstill.features.tracing import traced
from potstill.protocols import LogitKind, Offers, SeenLayer, Task, Teacher
from potstill.signals import Batch, Signals
from potstill.teachers.fingerprints import digest, module_digest

VALUED = frozenset({"regression", "embedding"})
"""Kinds of targets for which a model gives values and not logits."""


@final
class ModuleTeacher(Teacher):
    """A torch module that answers in eval mode and without gradient.

    The module is handed over: it is frozen (`requires_grad_(False)`) and kept in eval mode, so
    that batch norm and dropout never see the student's batches.

    Args:
        model: the module.
        task: how it is called.
        preprocessing: a text that names what is done to its inputs; part of the fingerprint.
    """

    def __init__(self, model: nn.Module, task: Task, *, preprocessing: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self._task = task
        self._preprocessing = preprocessing

    def offers(self) -> Offers:
        """Raw logits (or values) and the output of any named layer."""
        kind = LogitKind.VALUES if self._task.kind in VALUED else LogitKind.RAW
        return Offers(logits=kind, layers=tuple(known_layers(self.model)))

    def fingerprint(self) -> str:
        """Digest of weights and preprocessing."""
        return digest([module_digest(self.model), self._task.kind, self._preprocessing])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """What the module says. Back in eval mode first, should somebody have called `train()`."""
        if any(module.training for module in self.model.modules()):
            self.model.eval()
        # no_grad and not inference_mode: losses keep the teacher's tensors for their backward pass
        with torch.no_grad():
            return self._task.forward(self.model, batch, layers=layers)

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """Every module that runs and gives a tensor."""
        with traced(self.model) as seen:
            self.signals(batch)
        return tuple(seen)

    def to(self, device: torch.device) -> Self:
        """Move the module."""
        self.model.to(device)
        return self
