"""The order in which an epoch visits the samples: one function, for all kinds of batches."""

import torch
from torch import Tensor

EPOCHS = 1_000_003
"""How far the orders of two neighbouring seeds lie apart; a prime above any number of epochs."""


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> Tensor:
    """`[N]` int64: `torch.randperm` under `1_000_003 * seed + epoch`, on the CPU.

    Torch's generator looks at the low 32 bits of its seed alone; seeds below 4,294 and epochs below
    a million have orders of their own.
    """
    generator = torch.Generator().manual_seed(EPOCHS * seed + epoch)
    return torch.randperm(num_samples, generator=generator)


POOL, POOLS = 50, 4
"""Batches whose texts are sorted by length together, at most; pools an epoch, at least."""


def by_length(
    order_N: Tensor, lengths_N: Tensor, *, batch_size: int, seed: int, epoch: int
) -> Tensor:
    """The same order, with samples of like length side by side and the batches shuffled.

    Within each 50 batches of the order samples are sorted by length; the whole batches then come
    in an order of their own, and what fills no batch stays at the end. Small sets are sorted in
    quarters: sorted as a whole, every epoch would have the same batches, and learn less from them.

    Args:
        order_N: `[N]` int64.
        lengths_N: `[N]` of each sample, by number.
        batch_size: samples a batch.
        seed: names the order of the batches, with `epoch`.
        epoch: from 0.
    """
    size = max(1, min(POOL, len(order_N) // (POOLS * batch_size)))
    pools = torch.split(order_N, size * batch_size)
    ordered = torch.cat([pool[torch.argsort(lengths_N[pool], stable=True)] for pool in pools])
    whole = len(ordered) // batch_size
    turns = epoch_order(whole, seed=seed, epoch=epoch)
    batches = ordered[: whole * batch_size].view(whole, batch_size)[turns]
    return torch.cat([batches.flatten(), ordered[whole * batch_size :]])
