"""Anything with `predict_proba` or `predict` as teacher: scikit-learn, XGBoost, LightGBM."""

import warnings
from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch

from potstill.errors import ModelError
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.fingerprints import digest, estimator_digest

_FLOOR = 1e-7  # probabilities of 0 are raised to this before the logarithm


@runtime_checkable
class Estimator(Protocol):
    """The scikit-learn convention: fitted, answers arrays."""

    def predict(self, inputs: np.ndarray, /) -> np.ndarray:
        """Classes `[N]` or values `[N]` / `[N, O]`."""
        ...


@final
class EstimatorTeacher(Teacher):
    """A fitted estimator; its probabilities are offered as log-probabilities.

    Inputs are flattened to `[B, F]`. Columns follow `classes_`, so labels 0 to C-1 that the
    estimator has never seen get probability 0.

    Args:
        estimator: fitted; `predict_proba` is used when it exists and `kind` is not regression.
        kind: `single_label`, `multi_label` or `regression`.
        num_outputs: classes, labels or values a row.
        raw_inputs: feed the inputs before normalisation (what an estimator is fitted on).
    """

    def __init__(
        self, estimator: Estimator, *, kind: str, num_outputs: int, raw_inputs: bool = True
    ) -> None:
        if not hasattr(estimator, "predict"):
            raise ModelError(
                f"{type(estimator).__name__} has neither `predict_proba` nor `predict`; "
                "give a fitted estimator, or wrap a function in FunctionTeacher."
            )
        self.estimator = estimator
        self._kind, self._num_outputs, self._raw_inputs = kind, num_outputs, raw_inputs

    def offers(self) -> Offers:
        """Log-probabilities (single label), logits (multi-label) or values (regression)."""
        kind = {
            "regression": LogitKind.VALUES,
            "multi_label": LogitKind.RAW,
        }.get(self._kind, LogitKind.LOGPROBS)
        return Offers(logits=kind, num_classes=self._num_outputs)

    def fingerprint(self) -> str:
        """Digest of the estimator (its class, settings and fitted state) and how it is fed."""
        return digest([estimator_digest(self.estimator), self._kind, str(self._raw_inputs)])

    @property
    def reads_raw(self) -> bool:
        """As it was made."""
        return self._raw_inputs

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The estimator's answer as logits."""
        source = batch.raw if self._raw_inputs else batch.inputs
        if source is None:
            raise ModelError(
                "This estimator takes raw inputs, and the batch carries none. "
                "Build the feed with keep_raw=True, or set raw_inputs=False."
            )
        table = source.detach().reshape(len(source), -1).cpu().numpy()
        values = torch.from_numpy(self._answer(table).astype(np.float32))
        return Signals(logits=Logits(values.to(batch.inputs.device)))

    def _answer(self, table: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            # fitted on a named table, asked with a plain array: the columns are the same
            warnings.filterwarnings("ignore", message=".*feature names.*")
            if self._kind == "regression":
                values = np.asarray(self.estimator.predict(table))
                return np.asarray(values.reshape(len(table), -1))
            if self._kind == "multi_label":
                return _logit(_label_probabilities(self.estimator, table))
            return np.asarray(np.log(np.clip(self._probabilities(table), _FLOOR, 1.0)))

    def _probabilities(self, table: np.ndarray) -> np.ndarray:
        given = getattr(self.estimator, "predict_proba", None)
        columns = np.asarray(getattr(self.estimator, "classes_", np.arange(self._num_outputs)))
        full = np.zeros((len(table), self._num_outputs))
        if given is None:  # only a decision: all the mass on it
            full[np.arange(len(table)), self.estimator.predict(table).astype(int)] = 1.0
            return full
        probabilities = np.asarray(given(table))
        if probabilities.shape[1] != len(columns) or columns.max() >= self._num_outputs:
            raise ModelError(
                f"{type(self.estimator).__name__} knows classes {columns.tolist()[:10]}, the data "
                f"have {self._num_outputs}: 0 to {self._num_outputs - 1}. Fit it on them."
            )
        full[:, columns.astype(int)] = probabilities
        return full


def _label_probabilities(estimator: Estimator, table: np.ndarray) -> np.ndarray:
    given = getattr(estimator, "predict_proba", None)
    if given is None:
        return np.asarray(estimator.predict(table), dtype=np.float64)
    answer = given(table)
    if isinstance(answer, list):  # one [N, 2] array a label
        return np.stack([np.asarray(a)[:, -1] for a in answer], axis=1)
    return np.asarray(answer)


def _logit(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p, _FLOOR, 1 - _FLOOR)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
