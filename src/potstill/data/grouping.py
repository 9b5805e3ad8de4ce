"""Which group each sample is of: the names that occur, and their numbers."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from potstill.data.arrays import Array
from potstill.errors import DataError

if TYPE_CHECKING:
    from potstill.data.assembly import Raw

MOST = 1000
"""More groups than this are taken for a mistake, such as a column of identities."""


def group_names(raw: "Raw") -> tuple[str, ...]:
    """The names of all groups of a source, in order; none where it has no groups.

    Raises:
        DataError: more than 1,000 of them.
    """
    found: set[str] = set()
    for part in raw.parts.values():
        if part.groups is not None:
            found.update(str(value) for value in np.unique(part.groups).tolist())
    if len(found) > MOST:
        raise DataError(
            f"`{raw.name}` has {len(found)} groups, and {MOST} are the most that figures are given "
            "for; name a column of fewer values with `group:`."
        )
    return tuple(sorted(found))


def group_numbers(values: Array, names: tuple[str, ...], *, part: str) -> Tensor:
    """`[N]` int64, the number of each row's group.

    Raises:
        DataError: groups are no list of one value a row.
    """
    if values.ndim != 1:
        raise DataError(
            f"The groups of the {part} part have shape {values.shape}; give one value a row."
        )
    number = {name: place for place, name in enumerate(names)}
    return torch.tensor([number[str(value)] for value in values.tolist()], dtype=torch.int64)
