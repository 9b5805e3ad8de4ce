"""Mean, spread and 95 % interval of one figure over seeds, in the shape that results.json keeps."""

import math
from collections.abc import Sequence
from typing import TypedDict

from scipy.special import stdtrit

from potstill.errors import DataError

CONFIDENCE = 0.95


class Summary(TypedDict):
    """One figure over seeds; `std` and `ci95` are `None` when there is only one value."""

    mean: float
    std: float | None
    ci95: list[float] | None
    values: list[float]


def summarise(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation (n - 1) and Student's t interval of the mean.

    Equivalent to `mean ± t(0.975, n - 1) * std / sqrt(n)`. The interval speaks of the seeds, on
    the test data at hand; it says nothing about other test data.

    Raises:
        DataError: there is no value, or one of them is not a finite number.
    """
    numbers = check_finite(values, what="the values to summarise")
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return Summary(mean=mean, std=None, ci95=None, values=numbers)
    std = sample_std(numbers)
    margin = half_width(std, len(numbers))
    return Summary(mean=mean, std=std, ci95=[mean - margin, mean + margin], values=numbers)


def sample_std(values: Sequence[float]) -> float:
    """Standard deviation of at least two values, divided by n - 1."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def half_width(std: float, count: int) -> float:
    """Half the width of the 95 % t interval of a mean of `count` values."""
    return float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * std / math.sqrt(count)


def check_finite(values: Sequence[float], *, what: str) -> list[float]:
    """The values as plain floats, or a `DataError` that names what is wrong with them."""
    numbers = [float(v) for v in values]
    if not numbers:
        raise DataError(f"There are no numbers in {what}; at least one seed must have finished.")
    bad = [v for v in numbers if not math.isfinite(v)]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(numbers)} numbers in {what} are not finite (the first is "
            f"{bad[0]}); look at the training curves of those seeds and lower the learning rate."
        )
    return numbers
