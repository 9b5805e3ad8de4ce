"""Trees and lists of rules that follow soft targets, grown by scikit-learn's regression trees.

A regression tree on class probabilities cuts the sum over classes of their variances. For one-hot
targets that sum is the Gini impurity, so a tree fitted on labels is the usual classification tree
and one fitted on a teacher's probabilities differs in its targets alone (the idea of the "born
again" trees of Breiman and Shang 1996; Frosst and Hinton 2017, arXiv:1711.09784, learn a soft tree
by gradient). Shapes: N rows, F inputs, K outputs.
"""

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.models.rules import (
    NO_LABEL,
    Condition,
    FitRows,
    Floats,
    Rule,
    first_holding,
    holding,
)

_PRIOR_ROWS = 1.0  # weight of the base rates in the probabilities of a rule
_LEAST = 1e-7
_DIGITS = 24  # steps of ten that are tried for a short threshold

Path = tuple[Condition, ...]


def grow_tree(
    inputs_NF: Floats, targets_NK: Floats, options: Mapping[str, object], *, seed: int
) -> list[Path]:
    """The paths to the leaves, from left to right."""
    grown = _regression_tree(inputs_NF, targets_NK, options, seed=seed)
    return _paths(grown, _shortener(inputs_NF))


def grow_list(
    inputs_NF: Floats,
    targets_NK: Floats,
    *,
    max_rules: int,
    max_conditions: int,
    min_samples_leaf: int,
    seed: int,
) -> list[Path]:
    """Rule after rule: the best leaf of a small tree, whose rows are then taken away.

    Separate and conquer as in PART (Frank and Witten 1998), with one measure for trees and lists:
    the rule taken is the one whose rows differ most from the rest,
    n_in n_out / n ‖mean target inside - outside‖². The last rule has no condition.
    """
    options = {"max_depth": max_conditions, "min_samples_leaf": min_samples_leaf}
    shorten = _shortener(inputs_NF)
    left = np.arange(len(inputs_NF))
    found: list[Path] = []
    while len(found) < max_rules and len(left) >= 2 * min_samples_leaf:
        inputs, targets = inputs_NF[left], targets_NK[left]
        paths = _paths(_regression_tree(inputs, targets, options, seed=seed), shorten)
        inside = [holding(path, inputs) for path in paths]
        gains = [_difference(targets, rows) for rows in inside]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        found.append(paths[best])
        left = left[~inside[best]]
    return [*found, ()]


def answered(paths: Sequence[Path], rows: FitRows, *, kind: str) -> list[Rule]:
    """The rules with what each answers: the mean target of the rows for which it is the first.

    Probabilities are drawn to the base rates with the weight of one row (the m-estimate of Cestnik
    1990), so that none is 0, and given as logits.
    """
    which_N = first_holding(paths, rows.inputs_NF)
    prior_K = rows.targets_NK.mean(axis=0)
    rules = []
    for number, path in enumerate(paths):
        targets, labels = rows.targets_NK[which_N == number], rows.labels_N[which_N == number]
        total_K, weight = targets.sum(axis=0), float(len(targets))
        if kind == "regression":
            mean_K = total_K / weight if weight else prior_K
        else:
            mean_K = (total_K + _PRIOR_ROWS * prior_K) / (weight + _PRIOR_ROWS)
        right = int((labels == mean_K.argmax()).sum()) if kind == "single_label" else None
        real = int((labels != NO_LABEL).sum())
        rules.append(Rule(path, tuple(_as_logits(mean_K, kind)), real, right))
    return rules


def _as_logits(mean_K: Floats, kind: str) -> list[float]:
    if kind == "regression":
        return [float(value) for value in mean_K]
    p_K = np.clip(mean_K, _LEAST, 1 - _LEAST)
    if kind == "multi_label":
        return [float(value) for value in np.log(p_K) - np.log1p(-p_K)]
    return [float(value) for value in np.log(p_K)]


def _difference(targets_NK: Floats, inside_N: NDArray[np.bool_]) -> float:
    """What cutting these rows off takes from the sum of squares; 0 if none or all are inside."""
    inside, outside = targets_NK[inside_N], targets_NK[~inside_N]
    if not len(inside) or not len(outside):
        return 0.0
    apart_K = inside.mean(axis=0) - outside.mean(axis=0)
    return float(len(inside) * len(outside) / len(targets_NK) * (apart_K @ apart_K))


def _regression_tree(
    inputs_NF: Floats, targets_NK: Floats, options: Mapping[str, object], *, seed: int
) -> object:
    from sklearn.tree import DecisionTreeRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=RuntimeWarning)  # of ccp paths, in NumPy
        fitted = DecisionTreeRegressor(random_state=seed, **options).fit(inputs_NF, targets_NK)
    return fitted.tree_


def _paths(tree: object, shorten: "_Shortener") -> list[Path]:
    left: NDArray[np.int64] = tree.children_left  # type: ignore[attr-defined]
    right: NDArray[np.int64] = tree.children_right  # type: ignore[attr-defined]
    features: NDArray[np.int64] = tree.feature  # type: ignore[attr-defined]
    thresholds: NDArray[np.float64] = tree.threshold  # type: ignore[attr-defined]
    found: list[Path] = []
    open_nodes: list[tuple[int, Path]] = [(0, ())]
    while open_nodes:
        node, path = open_nodes.pop()
        if left[node] < 0:
            found.append(path)
            continue
        feature = int(features[node])
        value = shorten(feature, float(thresholds[node]))
        open_nodes.append((int(right[node]), (*path, Condition(feature, value, above=True))))
        open_nodes.append((int(left[node]), (*path, Condition(feature, value, above=False))))
    return found


class _Shortener:
    """Thresholds with as few digits as separate the same rows."""

    def __init__(self, inputs_NF: Floats) -> None:
        self._inputs_NF = inputs_NF
        self._values: dict[int, Floats] = {}

    def __call__(self, feature: int, threshold: float) -> float:
        """The shortest decimal between the two values that the threshold lies between."""
        if feature not in self._values:
            self._values[feature] = np.unique(self._inputs_NF[:, feature].astype(np.float32))
        values = self._values[feature]
        place = int(np.searchsorted(values, np.float32(threshold), side="right"))
        if not 0 < place < len(values):
            return float(np.float32(threshold))
        low, high = values[place - 1], values[place]
        exponent = math.floor(math.log10(max(abs(low), abs(high), high - low))) + 1
        for power in range(exponent, exponent - _DIGITS, -1):
            short = float(f"{round(threshold / 10.0**power)}e{power}")
            if low <= np.float32(short) < high:
                return short
        return float(low)


def _shortener(inputs_NF: Floats) -> _Shortener:
    return _Shortener(inputs_NF)
