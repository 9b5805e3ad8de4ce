"""How a student's step is computed: exactly as written, or faster with answers that are close."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What is done to be fast. Weights, their gradients and the terms stay float32.

    Args:
        channels_last: images lie in memory with their channels last.
        bf16: the student's forward and backward pass choose between bfloat16 and float32.
        compiled: student and loss are compiled as one, for whole batches; a batch of another size
            (the last of an epoch) is computed without compilation.
        fused: one call of the optimiser updates all weights.
    """

    channels_last: bool = False
    bf16: bool = False
    compiled: bool = False
    fused: bool = False

    @property
    def name(self) -> str:
        """The words for it, `exact` for none."""
        words = {
            "compiled": self.compiled,
            "bf16": self.bf16,
            "channels_last": self.channels_last,
            "fused optimiser": self.fused,
        }
        return " + ".join(word for word, is_so in words.items() if is_so) or "exact"

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context of the student's forward pass."""
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def arrange(self, module: nn.Module) -> None:
        """Put the weights in the layout that is wanted."""
        if self.channels_last:
            module.to(memory_format=torch.channels_last)

    def compile(self, function: Callable[..., object]) -> Callable[..., object]:
        """A compiled form with the same random numbers (dropout), if that is wanted."""
        if not self.compiled:
            return function
        return torch.compile(function, dynamic=False, options={"fallback_random": True})


EXACT_PACE = Pace()


def as_written(module: nn.Module) -> None:
    """Put the weights back in the usual layout, for saving and export."""
    module.to(memory_format=torch.contiguous_format)
