"""Models, data and signals that are small enough for a test to use thousands of."""

from itertools import pairwise
from typing import final

import torch
from torch import nn

from potstill.signals import Batch, Logits, Signals
from potstill.train import TensorBatches


def tiny_mlp(*sizes: int, seed: int = 0, dropout: float = 0.0, norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them, their weights drawn under `seed`.

    Args:
        sizes: inputs, hidden widths, outputs.
        seed: of the weights; the global random state is left alone.
        dropout: after each hidden layer.
        norm: batch norm in each hidden layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width, following in pairwise(sizes[:-1]):
            layers.append(nn.Linear(width, following))
            if norm:
                layers.append(nn.BatchNorm1d(following))
            layers.append(nn.ReLU())
            if dropout:
                layers.append(nn.Dropout(dropout))
        return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def tiny_signals(rows: int = 6, classes: int = 4, *, seed: int = 0, scale: float = 2.0) -> Signals:
    """Normal logits `[rows, classes]` that carry gradient."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, classes, generator=generator) * scale
    return Signals(logits=Logits(values.requires_grad_()))


@final
class TinyClasses:
    """60 noisy points of 3 classes in 6 dimensions, as `Batches` of 16.

    Args:
        seed: of the points and of their order.
        shuffle: whether each epoch has an order of its own.
        poisoned: epoch and index of a batch with a NaN in it.
    """

    def __init__(
        self, *, seed: int = 0, shuffle: bool = True, poisoned: tuple[int, int] | None = None
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(60) % 3
        centres = torch.randn(3, 6, generator=generator)
        inputs = centres[labels] + torch.randn(60, 6, generator=generator)
        self._poisoned = poisoned
        self._batches = TensorBatches(inputs, labels, batch_size=16, seed=seed, shuffle=shuffle)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return self._batches.num_batches

    def batch(self, epoch: int, index: int) -> Batch:
        """Inputs `[B, 6]`, labels `[B]`, ids `[B]`."""
        batch = self._batches.batch(epoch, index)
        if (epoch, index) == self._poisoned:
            batch.inputs[0, 0] = torch.nan
        return batch
