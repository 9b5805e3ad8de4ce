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

_SMALLEST = 6.1e-5  # the smallest scale of torch's fused kernel


def settle_scales(grid: nn.Module) -> None:
    """Let training and conversion agree on scales, and weights be rounded by their range now."""
    observer = cast("nn.Module", grid.activation_post_process)
    cast("Tensor", observer.eps).fill_(_SMALLEST)
    observer.averaging_constant = 1.0  # type: ignore[assignment]


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
        self.take_over()

    def take_over(self) -> None:
        """Switch the grids' own watching off (also after weights were loaded)."""
        for grid in self._grids:
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
            observer = cast("nn.Module", grid.activation_post_process)
            for name, new in (("min_val", low), ("max_val", high)):
                old = cast("Tensor", getattr(observer, name))
                setattr(observer, name, new if keep == 1.0 else torch.lerp(old, new, keep))
            scale, zero = observer.calculate_qparams()  # type: ignore[operator]
            cast("Tensor", grid.scale).resize_(scale.shape).copy_(scale)
            cast("Tensor", grid.zero_point).resize_(zero.shape).copy_(zero)
        self._seen.clear()


@final
class _Watch:
    """A hook that is copied together with the grids it watches."""

    def __init__(self, ranges: Ranges, number: int) -> None:
        self._ranges, self._number = ranges, number

    def __call__(self, _grid: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._ranges.note(self._number, given[0])
