"""Options and values that codecs of logits refuse."""

import math

from torch import Tensor

from potstill.errors import StoreError
from potstill.store.codecs.classes import check_rows


def check_at_least(codec: str, option: str, value: int, least: int) -> None:
    """Whole numbers.

    Raises:
        StoreError: another type, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise StoreError(
            f"The codec `{codec}` got {option}={value!r}; give a whole number of at least {least}."
        )


def check_temperature(codec: str, value: float) -> None:
    """Softmax temperatures.

    Raises:
        StoreError: not a positive number.
    """
    if not (math.isfinite(value) and value > 0):
        raise StoreError(f"The codec `{codec}` got temperature={value!r}; give a number above 0.")


def check_logits(values: Tensor, codec: str) -> None:
    """`[N, C]`, -inf allowed.

    Raises:
        StoreError: another shape, NaN, inf, rows that rule out every class.
    """
    if values.ndim != 2:
        raise StoreError(
            f"The codec `{codec}` stores logits `[rows, classes]` and got the shape "
            f"{list(values.shape)}; flatten positions to rows."
        )
    check_rows(values, codec, ruled_out=True)
