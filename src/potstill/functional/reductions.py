"""From rows to one number: masks that let no NaN through, sums, and the only division.

Shapes: N rows.
"""

import torch
from torch import Tensor


def upcast(values: Tensor) -> Tensor:
    """`values.float()`, except that float64 stays float64."""
    return values if values.dtype is torch.float64 else values.float()


def keep_rows(values: Tensor, mask_N: Tensor | None) -> Tensor:
    """The same values with 0 in the rows that do not count; `None` keeps all and costs nothing.

    The rows are selected, not multiplied, so what they held (NaN, inf) reaches neither the value
    nor the gradient.

    Args:
        values: `[N, ...]`.
        mask_N: `[N]` bool, true where the row counts.
    """
    if mask_N is None:
        return values
    return torch.where(mask_N.reshape(-1, *(1,) * (values.ndim - 1)), values, 0)


def sum_rows(losses_N: Tensor, mask_N: Tensor | None) -> Tensor:
    """The sum over the rows that count, `[]`."""
    return keep_rows(losses_N, mask_N).sum()


def divide(total: Tensor, count: Tensor | int) -> Tensor:
    """`total / max(count, 1)`: nothing to count gives 0, not NaN, and never waits for a device."""
    if isinstance(count, Tensor):
        return total / count.clamp(min=1)
    return total / max(count, 1)
