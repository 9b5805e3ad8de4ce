"""A way to run a frozen module on a CUDA device: recorded once as a graph, then replayed.

A replay starts all kernels with one call, which pays for small models whose kernels are shorter
than the time it takes to start them.
"""

from typing import final

import torch
from torch import Tensor, nn


@final
class Graphed(nn.Module):
    """A module recorded as a CUDA graph for one batch shape; other shapes run as they are.

    Args:
        plain: gives float32 answers.
        sample: `[B, ...]` on the device; its shape is the one that is recorded.
    """

    def __init__(self, plain: nn.Module, sample: Tensor) -> None:
        super().__init__()
        self.module = plain
        self._input = sample.detach().clone()
        side = torch.cuda.Stream(sample.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(sample.device))
        with torch.cuda.stream(side), torch.no_grad():
            for _ in range(3):  # what is allocated or tuned at first is not to be recorded
                plain(self._input)
        torch.cuda.current_stream(sample.device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self._output: Tensor = plain(self._input)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` to float32 `[B, C]`, a copy that later replays do not overwrite."""
        if inputs.shape != self._input.shape:
            return self.module(inputs)  # type: ignore[no-any-return]
        self._input.copy_(inputs)
        self._graph.replay()
        return self._output.clone()
