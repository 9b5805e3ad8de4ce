"""Random classes as a pure function of keys: no generator, no state, the same on every machine.

N rows · C classes · D draws · R rows · M items. Uniform numbers are counters mixed by the finaliser
of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195); classes are found in the
cumulative sum, first of blocks, then within one.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 64
_FEW_CLASSES = 2048  # up to here blocks save nothing
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BELOW_ONE = 1 - 1e-12  # a target never lies beyond the last class that has mass


def uniforms(keys_N: NDArray[np.int64], num_draws: int, seed: int) -> NDArray[np.float64]:
    """`[N, D]` in [0, 1), each row from its key and the seed alone."""
    row_N = _mix(keys_N.astype(np.uint64) ^ _mix(np.array([seed]).astype(np.uint64)))
    counter_D = np.arange(1, num_draws + 1, dtype=np.uint64) * _GOLDEN
    mixed = _mix(row_N[:, None] + counter_D)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def choose(mass_NC: Tensor, uniforms_ND: Tensor) -> Tensor:
    """`[N, D]`, classes drawn with replacement in proportion to their mass.

    Args:
        mass_NC: float32, not negative, at least one class of each row above 0.
        uniforms_ND: float64, in [0, 1), on the same device.
    """
    num_rows, num_classes = mass_NC.shape
    if num_classes <= _FEW_CLASSES:
        return _find(mass_NC.double(), uniforms_ND)[0]
    whole = num_classes // _BLOCK * _BLOCK
    blocks_NbB = mass_NC[:, :whole].reshape(num_rows, whole // _BLOCK, _BLOCK)
    sums_Nb = torch.cat([blocks_NbB.sum(-1), mass_NC[:, whole:].sum(-1, keepdim=True)], dim=1)
    chosen_ND, left_ND = _find(sums_Nb.double(), uniforms_ND)
    inside = torch.arange(_BLOCK, device=mass_NC.device)
    ids_NDB = chosen_ND[..., None] * _BLOCK + inside
    exists = ids_NDB < num_classes
    flat = ids_NDB.clamp_(max=num_classes - 1).flatten(1)
    mass_NDB = mass_NC.gather(1, flat).view(ids_NDB.shape).where(exists, 0.0)
    place_ND, _ = _find(mass_NDB.double().flatten(0, 1), left_ND.reshape(-1, 1))
    return chosen_ND * _BLOCK + place_ND.view(num_rows, -1)


def _find(mass_RM: Tensor, share_RD: Tensor) -> tuple[Tensor, Tensor]:
    """Where in a row a share of its mass is reached: the item, and the share within that item."""
    sums_RM = mass_RM.cumsum(-1)
    target_RD = share_RD * _BELOW_ONE * sums_RM[:, -1:]
    found_RD = torch.searchsorted(sums_RM, target_RD, right=True)
    of_RD = mass_RM.gather(1, found_RD)
    before_RD = sums_RM.gather(1, found_RD) - of_RD
    return found_RD, ((target_RD - before_RD) / of_RD).clamp_(0, 1)
