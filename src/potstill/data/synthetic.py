"""Rows made up from those of a table, for a teacher to label: its transfer set.

A teacher that has learnt the training rows by heart says little more about them than their labels
do. What it knows besides shows in rows near them.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.data.samples import DataSet, Kind, Samples
from potstill.errors import RecipeError

_Floats = NDArray[np.float32]
_Chosen = NDArray[np.bool_]


class Way(StrEnum):
    """How a row is made."""

    SMEAR = "smear"  # Breiman and Shang 1996: columns of other rows
    MUNGE = "munge"  # Buciluă et al. 2006, §3.3 (doi:10.1145/1150402.1150464): of the nearest one


@final
@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """What rows are made up, and how.

    Args:
        rows: how many.
        way: `smear` gives each chosen column the value that another row, drawn at random, has
            there: every column keeps its distribution. `munge` takes it from the row's nearest
            neighbour; a number that is not whole is drawn about it, with the distance between the
            two over `spread` as standard deviation: columns that go together stay together.
        swap: how likely each column is chosen.
        spread: of `munge`; larger stays nearer to the data.
        seed: of the draws.
    """

    rows: int
    way: Way = Way.MUNGE
    swap: float = 0.5
    spread: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("rows", self.rows >= 1, "at least 1"),
            ("swap", 0 < self.swap <= 1, "above 0 and at most 1"),
            ("spread", self.spread > 0, "positive"),
            ("seed", self.seed >= 0, "0 or more"),
        ):
            if not ok:
                raise RecipeError(
                    f"`{name}` of synthetic rows is {getattr(self, name)!r}; it must be {expected}."
                )


def with_synthetic(data: DataSet, asked: Synthetic) -> DataSet:
    """The data set with made-up rows in its transfer part. Only training rows are looked at.

    The columns that one category became are taken together.

    Raises:
        RecipeError: the data are no table, or have too few rows.
    """
    if data.kind is not Kind.TABLE:
        raise RecipeError(
            f"Synthetic rows are made of tables, and `{data.name}` is a {data.kind}; for images "
            "and signals use `distill.augment`."
        )
    if len(data.train) < 2:
        raise RecipeError("Synthetic rows need two training rows at least; give more data.")
    made = torch.from_numpy(_made(data, asked))
    parts = [data.train, data.validation, data.test, data.transfer]
    first = 1 + max(int(part.ids.max()) for part in parts if part is not None)
    rows = Samples(made, torch.arange(first, first + len(made)))
    transfer = rows if data.transfer is None else data.transfer.unlabelled().concat(rows)
    return replace(data, transfer=transfer)


def _made(data: DataSet, asked: Synthetic) -> _Floats:
    """`[rows, F]` float32."""
    table_NF: _Floats = data.train.inputs.numpy()
    rng = np.random.default_rng(asked.seed)
    base_R = rng.integers(0, len(table_NF), asked.rows)
    groups_F = np.arange(table_NF.shape[1])
    if data.table is not None:
        groups_F = np.asarray(data.table.groups)
    chosen_RG = rng.random((asked.rows, int(groups_F.max()) + 1)) < asked.swap
    chosen_RF = chosen_RG[:, groups_F]
    if asked.way is Way.SMEAR:
        others_RG = rng.integers(0, len(table_NF), chosen_RG.shape)
        others_RF = table_NF[others_RG[:, groups_F], np.arange(len(groups_F))]
        return np.where(chosen_RF, others_RF, table_NF[base_R])
    near_N = _nearest(data.normalise(data.train.inputs))
    return _munged(table_NF, base_R, near_N[base_R], chosen_RF, spread=asked.spread, rng=rng)


def _munged(
    table_NF: _Floats,
    base_R: NDArray[np.int64],
    near_R: NDArray[np.int64],
    chosen_RF: _Chosen,
    *,
    spread: float,
    rng: np.random.Generator,
) -> _Floats:
    mine_RF, theirs_RF = table_NF[base_R], table_NF[near_R]
    whole_F = (table_NF == np.rint(table_NF)).all(axis=0)
    noise_RF = rng.standard_normal(mine_RF.shape) * np.abs(mine_RF - theirs_RF) / spread
    drawn_RF = theirs_RF + np.where(whole_F, 0.0, noise_RF)
    return np.where(chosen_RF, drawn_RF, mine_RF).astype(np.float32)


def _nearest(inputs_NF: Tensor) -> NDArray[np.int64]:
    """`[N]`: of each row the nearest other one, in standardised units."""
    from sklearn.neighbors import NearestNeighbors

    table = inputs_NF.numpy()
    found = NearestNeighbors(n_neighbors=2).fit(table).kneighbors(return_distance=False)
    return np.asarray(found[:, 0], dtype=np.int64)
