"""Deterministic parts of a data set: stratified by class where possible, else a permutation."""

import torch
from torch import Tensor

from potstill.errors import DataError


def part_size(size: float, num_rows: int, *, name: str) -> int:
    """How many of `num_rows` rows a part gets: a share between 0 and 1, or a whole number.

    Raises:
        DataError: the part, or what is left, would be empty.
    """
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise DataError(f"`{name}` must be a share such as 0.1 or a number of rows, got {size!r}.")
    count = round(size * num_rows) if isinstance(size, float) else size
    if isinstance(size, float) and not 0 <= size < 1:
        raise DataError(f"`{name}: {size}` must lie between 0 and 1, or be a whole number of rows.")
    if count < 1:
        raise DataError(
            f"`{name}: {size}` of {num_rows} rows leaves the {name} part empty; ask for a larger "
            f"share, such as `{name}: 0.1`."
        )
    if count >= num_rows:
        raise DataError(
            f"`{name}: {size}` takes {count} of {num_rows} rows and leaves none to train on; "
            "ask for fewer rows or give more data."
        )
    return count


def cut(
    num_rows: int, size: int, *, seed: int, classes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Divide row numbers into those kept and `size` that are cut off, both in ascending order.

    With `classes` the cut part has each class in proportion (largest remainders; ties go to the
    lower class), as long as every class has two rows and the part has room for one of each.

    Args:
        num_rows: N.
        size: how many rows to cut off, 1 … N - 1.
        seed: the only source of chance.
        classes: `[N]` int64.

    Returns:
        Kept and cut row numbers, int64, disjoint, together 0 … N - 1.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num_rows, generator=generator)
    chosen = order[:size] if classes is None else _stratified(order, size, classes.cpu())
    is_cut = torch.zeros(num_rows, dtype=torch.bool)
    is_cut[chosen] = True
    rows = torch.arange(num_rows)
    return rows[~is_cut], rows[is_cut]


def _stratified(order: Tensor, size: int, classes: Tensor) -> Tensor:
    """The first rows of each class in `order`, as many as its share; or plainly the first rows."""
    values, class_of, counts = torch.unique(classes, return_inverse=True, return_counts=True)
    room = min(size, len(order) - size)
    if int(counts.min()) < 2 or room < len(values):
        return order[:size]
    quotas = _quotas(counts, size)
    by_class = order[torch.argsort(class_of[order], stable=True)]
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(order)) - torch.repeat_interleave(starts, counts)
    return by_class[rank < torch.repeat_interleave(quotas, counts)]


def _quotas(counts: Tensor, size: int) -> Tensor:
    """`[C]` rows to take of each class: at least one, at most all but one, `size` in all."""
    exact = counts.double() * (size / int(counts.sum()))
    quotas = exact.floor().long().clamp(min=1).minimum(counts - 1)
    while (missing := size - int(quotas.sum())) != 0:
        step = 1 if missing > 0 else -1
        able = quotas < counts - 1 if step > 0 else quotas > 1
        want = torch.where(able, (exact - quotas) * step, torch.tensor(-torch.inf).double())
        first = torch.argsort(want, descending=True, stable=True)[
            : min(abs(missing), int(able.sum()))
        ]
        quotas[first] += step
    return quotas
