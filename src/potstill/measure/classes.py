"""What a test says about each class: sensitivity, specificity, predictive value, calibration.

NumPy only. N rows, C classes (or labels). Every class is looked at by itself, against all others.
"""

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from potstill.measure.quality import Floats, Integers, Kind, probabilities

Bools = NDArray[np.bool_]

MOST_CLASSES = 100  # more are not described one by one
_BINS = 10
_Z = 1.959963984540054  # of 95 %


class Rate(TypedDict):
    """A share of rows, the mean over seeds; `ci95` speaks of the test rows (Wilson), not of seeds.

    All `None` where there is no row to take a share of.
    """

    mean: float | None
    ci95: list[float] | None
    values: list[float | None]


class ClassRecord(TypedDict):
    """One class against all others.

    `sensitivity` (recall), `specificity` and `ppv` (positive predictive value, precision) are of
    the decisions; `ece` and `mean_probability` of the probabilities given to the class, whose
    `prevalence` is its share of the rows.
    """

    name: str
    support: int
    prevalence: float
    sensitivity: Rate
    specificity: Rate
    ppv: Rate
    ece: Rate
    mean_probability: float


def class_records(
    outputs: Sequence[Floats], labels: Integers | Floats, *, kind: Kind | str, names: Sequence[str]
) -> list[ClassRecord]:
    """A record of each class.

    Args:
        outputs: `[N, C]` logits of each seed, on the same rows.
        labels: `[N]` classes, or `[N, C]` of 0 and 1.
        kind: `single_label`: the likeliest class is decided for; `multi_label`: every label with a
            logit above zero.
        names: of the classes.
    """
    true_NC = _true(labels, len(names))
    probs = [probabilities(each, kind=kind) for each in outputs]
    said = [_decided(each, kind) for each in outputs]
    return [
        _record(
            name,
            true_NC[:, number],
            [each[:, number] for each in said],
            [each[:, number] for each in probs],
        )
        for number, name in enumerate(names)
    ]


def wilson(rate: float, count: float) -> list[float]:
    """The 95 % interval of a share of `count` rows (Wilson 1927)."""
    middle = rate + _Z**2 / (2 * count)
    half = _Z * math.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    return [max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)]


def class_calibration(probs_N: Floats, true_N: Bools, *, bins: int = _BINS) -> float:
    """Expected calibration error of the probability of one class, in bins of equal width.

    The mean over rows of |share of the class - mean probability| of the row's bin: one summand of
    the classwise error of Kull et al. 2019, arXiv:1910.12656.
    """
    index = np.minimum((probs_N * bins).astype(np.int64), bins - 1)
    sums = np.bincount(index, weights=probs_N, minlength=bins)
    hits = np.bincount(index, weights=true_N.astype(np.float64), minlength=bins)
    return float(np.abs(hits - sums).sum() / len(probs_N))


def _record(
    name: str, true_N: Bools, said: Sequence[Bools], probs: Sequence[Floats]
) -> ClassRecord:
    positive, negative = int(true_N.sum()), int((~true_N).sum())
    found = [float(each.sum()) for each in said]
    return ClassRecord(
        name=name,
        support=positive,
        prevalence=positive / len(true_N),
        sensitivity=_rate([_share(each[true_N]) for each in said], positive),
        specificity=_rate([_share(~each[~true_N]) for each in said], negative),
        ppv=_rate([_share(true_N[each]) for each in said], sum(found) / len(found)),
        ece=_plain([class_calibration(each, true_N) for each in probs]),
        mean_probability=float(np.mean([each.mean() for each in probs])),
    )


def _share(which_N: Bools) -> float | None:
    return float(which_N.mean()) if len(which_N) else None


def _rate(values: list[float | None], count: float) -> Rate:
    known = [value for value in values if value is not None]
    if not known or not count:
        return Rate(mean=None, ci95=None, values=values)
    mean = sum(known) / len(known)
    return Rate(mean=mean, ci95=wilson(mean, count), values=values)


def _plain(values: list[float]) -> Rate:
    return Rate(mean=sum(values) / len(values), ci95=None, values=[*values])


def _true(labels: Integers | Floats, classes: int) -> Bools:
    if labels.ndim == 2:
        return np.asarray(labels > 0.5)
    return np.asarray(labels[:, None] == np.arange(classes))


def _decided(logits_NC: Floats, kind: Kind | str) -> Bools:
    if Kind(kind) is Kind.MULTI_LABEL:
        return np.asarray(logits_NC > 0)
    return np.asarray(logits_NC.argmax(axis=1)[:, None] == np.arange(logits_NC.shape[1]))
