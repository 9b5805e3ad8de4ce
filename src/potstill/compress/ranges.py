"""Where the values of activations lie: watched in training, set before it.

torchao's grids watch themselves, each time they are called. Around pooling, flattening and
concatenation one grid is called several times in a pass, with values of different width, and the
average of these cuts the widest off. Here a pass counts once, with all that it showed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast, final

import torch
from torch import Tensor, nn


def _set(grid: nn.Module, low: Tensor, high: Tensor) -> None:
    """Give a grid the range, and the scale and zero point that follow from it."""
    observer = cast("nn.Module", grid.activation_post_process)
    observer.min_val, observer.max_val = low, high
    scale, zero = observer.calculate_qparams()  # type: ignore[operator]
    cast("Tensor", grid.scale).resize_(scale.shape).copy_(scale)
    cast("Tensor", grid.zero_point).resize_(zero.shape).copy_(zero)


@final
class Ranges:
    """The grids of activations, whose ranges are moved here alone.

    Args:
        grids: torchao's, each as often as it is called.
    """

    def __init__(self, grids: Sequence[nn.Module]) -> None:
        self._grids = list({id(grid): grid for grid in grids}.values())
        self._watching = False
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}
        for number, grid in enumerate(self._grids):
            grid.register_forward_pre_hook(_Watch(self, number))
            grid.disable_observer()  # type: ignore[operator]

    @contextmanager
    def seen(self, *, keep: float | None) -> Iterator[None]:
        """Watch one pass; afterwards `range = (1 - keep) · range + keep · what was seen`.

        With `None` nothing is watched.
        """
        self._watching = keep is not None
        try:
            yield
        finally:
            self._watching = False
        if keep is not None:
            self._move(keep)

    def note(self, number: int, value: Tensor) -> None:
        """Widen what a grid has seen in this pass."""
        if not self._watching:
            return
        low, high = torch.aminmax(value.detach())
        if (before := self._seen.get(number)) is not None:
            low, high = torch.minimum(low, before[0]), torch.maximum(high, before[1])
        self._seen[number] = (low, high)

    @torch.no_grad()
    def _move(self, keep: float) -> None:
        for number, (low, high) in self._seen.items():
            grid = self._grids[number]
            if keep < 1.0:
                observer = cast("nn.Module", grid.activation_post_process)
                low = torch.lerp(cast("Tensor", observer.min_val), low, keep)
                high = torch.lerp(cast("Tensor", observer.max_val), high, keep)
            _set(grid, low, high)
        self._seen.clear()


@final
class _Watch:
    """A hook that is copied together with the grids it watches."""

    def __init__(self, ranges: Ranges, number: int) -> None:
        self._ranges, self._number = ranges, number

    def __call__(self, _grid: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._ranges.note(self._number, given[0])
