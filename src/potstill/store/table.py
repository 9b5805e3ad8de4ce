"""Which record answers for which sample and view."""

from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from potstill.store.rows import Whole


@final
class Table:
    """Records by (sample, view), looked up in one go on any device.

    Args:
        ids_N: int64, which sample each record is of.
        views_N: int64, which view.
    """

    def __init__(self, ids_N: Whole, views_N: Whole) -> None:
        ids_S, sample_N = np.unique(ids_N, return_inverse=True)
        views_V, view_N = np.unique(views_N, return_inverse=True)
        records_SV = np.full((max(len(ids_S), 1), max(len(views_V), 1)), -1, np.int64)
        records_SV[sample_N, view_N] = np.arange(len(ids_N))
        self.has_repeats = bool((records_SV >= 0).sum() != len(ids_N))
        self.num_samples = len(ids_S)
        self.views = tuple(int(view) for view in views_V)
        nobody = np.array([np.iinfo(np.int64).max])
        self._ids_S = torch.from_numpy(ids_S if len(ids_S) else nobody)
        self._views_V = torch.from_numpy(views_V if len(views_V) else nobody)
        self._records_SV = torch.from_numpy(records_SV)

    def __call__(self, ids_B: Tensor, view_B: Tensor) -> Tensor:
        """`[B]` int64, the records of samples and views; -1 where there is none."""
        sample_B, has_sample_B = _search(self._ids_S, ids_B)
        column_B, has_view_B = _search(self._views_V, view_B)
        found_B = self._records_SV[sample_B, column_B]
        return torch.where(has_sample_B & has_view_B, found_B, -1)

    @property
    def device(self) -> torch.device:
        """Where records are looked up."""
        return self._ids_S.device

    def to(self, device: torch.device) -> Self:
        """Look up on another device from now on."""
        self._ids_S, self._views_V, self._records_SV = (
            tensor.to(device) for tensor in (self._ids_S, self._views_V, self._records_SV)
        )
        return self


def _search(sorted_S: Tensor, wanted_B: Tensor) -> tuple[Tensor, Tensor]:
    """Where each value lies in a sorted row, and whether it does."""
    at_B = torch.searchsorted(sorted_S, wanted_B).clamp_(max=len(sorted_S) - 1)
    return at_B, sorted_S[at_B] == wanted_B
