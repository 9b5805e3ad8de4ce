"""A plain function as teacher."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from potstill.errors import ModelError
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.fingerprints import digest, function_digest


@final
class FunctionTeacher(Teacher):
    """A function from inputs `[B, ...]` to answers `[B, C]`.

    Args:
        function: called with the batch's normalised inputs, without gradient.
        kind: what its answers are.
        fingerprint: names this version of the function; if left out, its name, code, defaults and
            captured values (but no globals that it reads: give one if there are such).
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        kind: LogitKind = LogitKind.RAW,
        fingerprint: str | None = None,
    ) -> None:
        self._function, self._kind = function, LogitKind(kind)
        self._fingerprint = fingerprint

    def offers(self) -> Offers:
        """Answers of the kind given."""
        return Offers(logits=self._kind)

    def fingerprint(self) -> str:
        """The one given, or a digest of the function."""
        if self._fingerprint is not None:
            return digest(["function", self._fingerprint])
        return function_digest(self._function)

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The function's answer."""
        with torch.no_grad():
            answer = self._function(batch.inputs)
        if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != len(batch):
            given = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise ModelError(
                f"The teacher function answered {given} for {len(batch)} samples; "
                f"it must return a tensor [{len(batch)}, classes]."
            )
        return Signals(logits=Logits(answer.to(batch.inputs.device)))
