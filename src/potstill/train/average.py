"""The exponential moving average of a student, kept without waiting for the device."""

from copy import deepcopy
from typing import cast, final

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


@final
class MovingAverage:
    """`average = decay * average + (1 - decay) * weights` after every step, buffers included.

    The first step's weights are taken as they are. Whole numbers (the counters of batch norm) are
    copied. Unlike `torch.optim.swa_utils.AveragedModel` it counts on the host, so that a step does
    not ask the device.

    Args:
        student: what is averaged.
        decay: between 0 and 1.
        warm: begin as the plain mean of all weights so far, `1 - 1 / updates`, until that is
            slower than `decay`.
    """

    def __init__(self, student: nn.Module, *, decay: float, warm: bool = False) -> None:
        self.module = deepcopy(student)
        self._decay, self._warm, self._updates = decay, warm, 0

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Take in the weights after a step."""
        mine, new = self.module.state_dict(), student.state_dict()
        share = 1.0 if self._updates == 0 else 1.0 - self._decay
        if self._warm:
            share = max(share, 1.0 / (self._updates + 1))
        for name, average in mine.items():
            if share == 1.0 or not average.is_floating_point():
                average.copy_(new[name])
            else:
                average.lerp_(new[name], share)
        self._updates += 1

    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"module": self.module.state_dict(), "updates": self._updates}

    def load(self, state: dict[str, object]) -> None:
        """From a checkpoint."""
        self.module.load_state_dict(cast("Weights", state["module"]))
        self._updates = cast("int", state["updates"])
