"""Random numbers as a pure function of counters (splitmix64), the same on every device.

Nothing here has a state: the numbers of a sample depend on its own words (seed, identity, view, …)
and never on what else is in the batch. Steele, Lea, Flood 2014, "Fast splittable pseudorandom
number generators"; the finaliser is Stafford's variant 13.
"""

from dataclasses import dataclass
from math import prod
from typing import Self, final

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def _signed(word: int) -> int:
    """A 64-bit word as int64 holds it."""
    word &= _MASK
    return word - (1 << 64) if word >> 63 else word


_GAMMA = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def mix64(words: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 words of any shape: a bijection that looks random."""
    words = (words ^ _shifted(words, 30)) * _FIRST
    words = (words ^ _shifted(words, 27)) * _SECOND
    return words ^ _shifted(words, 31)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Independent random numbers for each of B samples.

    Args:
        keys: `[B]` int64, one key a sample.
    """

    keys: Tensor

    @classmethod
    def of(cls, seed: int, ids_B: Tensor, view_B: Tensor) -> Self:
        """Draws for samples named by identity and view."""
        start = mix64(torch.full_like(ids_B, _signed(seed)) + _GAMMA)
        return cls(_absorb(_absorb(start, ids_B), view_B))

    def split(self, word: int) -> Self:
        """Further draws, independent of these and of every other word's."""
        return type(self)(_absorb(self.keys, torch.full_like(self.keys, word)))

    def bits(self, *shape: int) -> Tensor:
        """`[B, *shape]` int64, 64 random bits each: a splitmix64 stream that starts at the key."""
        steps = torch.arange(1, prod(shape) + 1, device=self.keys.device) * _GAMMA
        return mix64(self.keys[:, None] + steps).view(-1, *shape)

    def uniform(self, *shape: int) -> Tensor:
        """`[B, *shape]` float32 in [0, 1): multiples of 2⁻²⁴."""
        return _shifted(self.bits(*shape), 40).float() * 2.0**-24

    def symmetric(self, *shape: int) -> Tensor:
        """`[B, *shape]` float32 in [-1, 1)."""
        return self.uniform(*shape) * 2 - 1

    def field(self, *shape: int) -> Tensor:
        """`[B, 2, *shape]` float32 in [-1, 1): two numbers from each 64 bits."""
        bits = self.bits(*shape)
        both = torch.stack([_shifted(bits, 40), bits & 0xFFFFFF], dim=1)
        return both.float() * 2.0**-23 - 1

    def whole(self, bound: int, *shape: int) -> Tensor:
        """`[B, *shape]` int64, uniform over -bound … bound."""
        return ((_shifted(self.bits(*shape), 40) * (2 * bound + 1)) >> 24) - bound

    def normal(self, *shape: int) -> Tensor:
        """`[B, *shape]` float32 with mean 0, std 1 and a bell shape, within ±3.47.

        The sum of four uniform 16-bit numbers: unlike logarithms and cosines it is exact, so the
        values are equal, bit for bit, on every device and in every batch.
        """
        bits = self.bits(*shape)
        low, high = (bits & 0xFFFF) + ((bits >> 16) & 0xFFFF), bits >> 32
        total = low + (high & 0xFFFF) + ((high >> 16) & 0xFFFF)
        std = ((65536.0**2 - 1) / 12 * 4) ** 0.5
        return (total - 2 * 65535).float().mul(1 / std)


def _absorb(keys: Tensor, words: Tensor) -> Tensor:
    return mix64((keys ^ words) + _GAMMA)


def _shifted(words: Tensor, by: int) -> Tensor:
    """Logical shift to the right; `>>` alone would copy the sign."""
    return (words >> by) & ((1 << (64 - by)) - 1)
