"""Log-probabilities of kept classes, relative to the largest of their row, and the mass left over.

N rows · K kept classes. The eight-bit grid: code c stands for p / p_max = (c / 255)⁴, that is
4 ln(c / 255) nat; 255 is the largest of the row, 0 a probability of zero. So the fourth root of
p / p_max is right to 1 / 510: 0.008 nat where p = p_max, 0.025 at a hundredth of it, 0.08 at 10⁻⁴.
Large probabilities, which make up the gradient, get the fine steps.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.signals import SparseLogits
from potstill.store.codecs.layout import Bytes, Whole, damaged

_POWER = 4.0
_STEPS = 255
GRID = np.concatenate(
    [[-np.inf], _POWER * np.log(np.arange(1, _STEPS + 1) / _STEPS)], dtype=np.float32
)
_SMALLEST = 2.0**-24  # of float16

GRID_BOUND = (
    "the fourth root of a probability's ratio to the largest of its row is off by at most 1/510 "
    "(1/255 where the ratio is below 1.5e-11): 0.8 % of a ratio near 1, 2.5 % of a hundredth, 8 % "
    "of a ten-thousandth"
)
TAIL_BOUND = "the tail, or what it leaves of 1 where that is less, by at most 0.05 % or 3e-8"


def codes(relative: NDArray[np.float32]) -> Bytes:
    """Log-ratios to the largest of the row (at most 0, -inf for none) to codes."""
    grid = np.rint(_STEPS * np.exp(relative / np.float32(_POWER)))
    return np.where(np.isneginf(relative), 0, np.clip(grid, 1, _STEPS)).astype(np.uint8)


def write_tail(tail_N: NDArray[np.float64]) -> Bytes:
    """`[N, 2]`: float16, the tail up to a half, and above minus what it leaves of 1."""
    kept_N = np.maximum(1 - tail_N, _SMALLEST)
    return np.where(tail_N <= 0.5, tail_N, -kept_N).astype("<f2").view(np.uint8).reshape(-1, 2)


def read_tail(tail_N2: Bytes, codec: str) -> NDArray[np.float64]:
    """`[N]`, the masses that `write_tail` wrote.

    Raises:
        StoreError: no mass between 0 and 1.
    """
    signed_N = np.ascontiguousarray(tail_N2).view("<f2").reshape(-1).astype(np.float64)
    if not (np.abs(signed_N) <= 0.5).all() or (np.signbit(signed_N) & (signed_N == 0)).any():
        raise damaged(codec, "its tail is no probability")
    return np.where(signed_N < 0, 1 + signed_N, signed_N)


def to_signal(
    ids_NK: Whole,
    relative_NK: NDArray[np.float32],
    tail_N: NDArray[np.float64],
    *,
    num_classes: int,
    temperature: float,
    codec: str,
) -> SparseLogits:
    """Kept classes whose probabilities and tail make 1 exactly (in float32).

    Raises:
        StoreError: rows without a largest class, log-ratios above 0.
    """
    if len(ids_NK) and not (relative_NK.max(axis=1) == 0).all():
        raise damaged(codec, "none of its classes is the largest")
    relative = torch.from_numpy(relative_NK)
    kept_N1 = torch.from_numpy(np.log1p(-tail_N)).float()[:, None]
    logprobs_NK = relative - relative.logsumexp(-1, keepdim=True) + kept_N1
    ids = torch.from_numpy(ids_NK).masked_fill_(relative.isneginf(), 0)
    return SparseLogits(ids, logprobs_NK, _float32(tail_N), num_classes, temperature)


def _float32(values_N: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values_N.astype(np.float32))
