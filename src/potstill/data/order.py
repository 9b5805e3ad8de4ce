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
