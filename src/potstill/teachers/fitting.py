"""Estimators by name, for teachers that a run fits itself."""

import difflib
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from potstill.errors import ModelError, need

_NAMES = {
    "random_forest": ("sklearn.ensemble", "RandomForest", ""),
    "extra_trees": ("sklearn.ensemble", "ExtraTrees", ""),
    "gradient_boosting": ("sklearn.ensemble", "HistGradientBoosting", ""),
    "xgboost": ("xgboost", "XGB", "trees"),
    "lightgbm": ("lightgbm", "LGBM", "trees"),
}
_QUIET = {"lightgbm": {"verbose": -1}, "xgboost": {"verbosity": 0}}


class Fittable(Protocol):
    """An estimator before and after `fit`."""

    def fit(self, inputs: np.ndarray, labels: np.ndarray, /) -> object:
        """Learn."""
        ...

    def predict(self, inputs: np.ndarray, /) -> np.ndarray:
        """Answer."""
        ...


def make_estimator(name: str, options: Mapping[str, object], *, kind: str) -> Fittable:
    """An unfitted estimator with a fixed random state.

    Args:
        name: `random_forest`, `extra_trees`, `gradient_boosting` (scikit-learn), `xgboost`,
            `lightgbm`.
        options: of its constructor.
        kind: `single_label`, `multi_label` (trees of scikit-learn, one gradient-boosted model a
            label) or `regression`.

    Raises:
        ModelError: the name or an option is unknown.
        MissingExtra: its library is not installed.
    """
    if name not in _NAMES:
        close = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise ModelError(
            f"There is no estimator called {name!r}. {hint}Known: {', '.join(_NAMES)}."
        )
    module, prefix, extra = _NAMES[name]
    suffix = "Regressor" if kind == "regression" else "Classifier"
    made = getattr(need(module, extra=extra or "trees"), prefix + suffix)
    known = made().get_params()
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}."
            raise ModelError(f"{name} has no option {option!r}. {hint}")
    estimator: Fittable = made(**{"random_state": 0, **_QUIET.get(name, {}), **options})
    return _by_label(estimator, name) if kind == "multi_label" else estimator


def _by_label(estimator: Fittable, name: str) -> Fittable:
    if name in {"random_forest", "extra_trees"}:
        return estimator
    from sklearn.multioutput import MultiOutputClassifier

    wrapped: Fittable = MultiOutputClassifier(estimator)
    return wrapped
