"""Digests of samples, so that a store knows the samples that it has answers for.

A sample's digest is the sum over its 8-byte words of splitmix64's finaliser of (word, position),
vectorised: 64 bits against mistakes (other files, another order), not against forgers.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from potstill.store.rows import Whole

_CHUNK = 1 << 18  # words at a time, so that they stay in the cache
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def contents_of(inputs_N: Tensor) -> Whole:
    """`[N]` int64: one digest a sample, of its bytes, shape and type."""
    array = inputs_N.detach().cpu().contiguous().numpy()
    flat = array.reshape(len(array), -1).view(np.uint8).reshape(len(array), -1)
    spare = -flat.shape[1] % 8
    step = max(_CHUNK * 8 // max(flat.shape[1], 1), 1)
    parts = [_digests(flat[at : at + step], spare) for at in range(0, len(flat), step)]
    about = mix(np.frombuffer(f"{array.dtype}{array.shape[1:]}".ljust(64)[:64].encode(), np.uint64))
    total = np.concatenate([*parts, np.empty(0, np.uint64)]) + about.sum(dtype=np.uint64)
    return mix(total).view(np.int64)


def row_keys(ids: Whole, views: Whole, numbers: Whole) -> Whole:
    """int64: the identity of each row, from its sample, its view and its number in the record."""
    keys = mix(ids.view(np.uint64) + _GAMMA)
    for word in (views, numbers):
        keys = mix((keys ^ word.view(np.uint64)) + _GAMMA)
    return keys.view(np.int64)


def mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: a bijection that looks random."""
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed


def _digests(flat_NB: NDArray[np.uint8], spare: int) -> NDArray[np.uint64]:
    padded = np.pad(flat_NB, ((0, 0), (0, spare))) if spare else flat_NB
    words_NW = np.ascontiguousarray(padded).view(np.uint64)
    places_W = mix(np.arange(1, words_NW.shape[1] + 1, dtype=np.uint64) * _GAMMA)
    return np.asarray(mix(words_NW + places_W).sum(axis=1, dtype=np.uint64))
