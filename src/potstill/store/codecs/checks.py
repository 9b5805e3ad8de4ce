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


def check_number(codec: str, option: str, value: float, most: float = math.inf) -> None:
    """Finite numbers above 0.

    Raises:
        StoreError: another type, not above 0, or too large.
    """
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if not is_number or not 0 < value <= most:
        upto = "" if math.isinf(most) else f", at most {most:g}"
        raise StoreError(
            f"The codec `{codec}` got {option}={value!r}; give a number above 0{upto}."
        )


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
