"""What the loop reads: batches by epoch and position, so that any can be asked for again."""

from typing import Protocol, final

import torch
from torch import Tensor

from potstill.data.order import epoch_order
from potstill.signals import Batch, Origin


class Batches(Protocol):
    """A training or validation set as the loop sees it.

    `batch` is a pure function of its arguments: a resumed run asks for the same batches again.
    """

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        ...

    def batch(self, epoch: int, index: int) -> Batch:
        """One batch, on the training device."""
        ...


@final
class TensorBatches:
    """Tensors in memory, as `Batches`.

    Args:
        inputs: `[N, ...]`.
        labels: `[N]`, `[N, C]` or `[N, O]`; may be absent.
        batch_size: rows a batch; the last one may be smaller.
        seed: of the order (see `potstill.data.order`); ignored without `shuffle`.
        shuffle: a new order each epoch.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        *,
        batch_size: int = 128,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        self._inputs, self._labels = inputs, labels
        self._batch_size, self._seed, self._shuffle = batch_size, seed, shuffle
        self._ids = torch.arange(len(inputs), device=inputs.device)
        self._origin = Origin(self._ids, inputs)
        self._order: tuple[int, Tensor] = (-1, self._ids)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._inputs) // self._batch_size)

    def batch(self, epoch: int, index: int) -> Batch:
        """Rows `index * batch_size` and on of the epoch's order."""
        if self._shuffle and self._order[0] != epoch:
            order = epoch_order(len(self._inputs), seed=self._seed, epoch=epoch)
            self._order = (epoch, order.to(self._inputs.device))
        start = index * self._batch_size
        rows = self._order[1][start : start + self._batch_size]
        return Batch(
            inputs=self._inputs[rows],
            labels=None if self._labels is None else self._labels[rows],
            ids=rows,
            origin=self._origin,
        )
