"""Figures from arrays of logits: probabilities, agreement, calibration, confusion, scores.

NumPy only. N rows, C classes, L labels, O outputs. The metrics that a task selects on live in
`potstill.tasks`; these describe the selected models afterwards.
"""

from enum import StrEnum
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

TINY = 1e-12
NLL, CHOSEN, SURE = 0, 1, 2
"""Columns of a digest of tokens: -log p(label), the likeliest token, and its probability."""


class Kind(StrEnum):
    """What the targets are, as in `Task.kind`."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    REGRESSION = "regression"
    EMBEDDING = "embedding"
    TOKENS = "tokens"
    TRANSCRIPT = "transcript"


class Bin(TypedDict):
    """Answers of similar confidence; `confidence` and `accuracy` are `None` if there are none."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


class Calibration(TypedDict):
    """Expected calibration error and the reliability diagram it comes from."""

    ece: float
    bins: list[Bin]


class PerClass(TypedDict):
    """One entry a class; `None` where nothing can be said (no row, or no row predicted so)."""

    support: list[int]
    sensitivity: list[float | None]
    specificity: list[float | None]
    precision: list[float | None]


def softmax(logits_NC: Floats) -> NDArray[np.float64]:
    """`exp(logits) / sum(exp(logits))` a row, in float64, `[N, C]`."""
    shifted = logits_NC.astype(np.float64) - logits_NC.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def sigmoid(logits: Floats) -> NDArray[np.float64]:
    """`1 / (1 + exp(-logits))`, in float64 and without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64))))


def probabilities(logits: Floats, *, kind: Kind | str) -> NDArray[np.float64]:
    """Softmax for one label a row, sigmoid for several; regression has none (`DataError`)."""
    match Kind(kind):
        case Kind.SINGLE_LABEL:
            return softmax(logits)
        case Kind.MULTI_LABEL:
            return sigmoid(logits)
        case Kind.REGRESSION:
            raise DataError("Regression values are no probabilities; ask for another figure.")
        case Kind.EMBEDDING:
            raise DataError("Embeddings are no probabilities; ask for another figure.")
        case Kind.TRANSCRIPT:
            raise DataError("Letters are no probabilities; ask for another figure.")
        case Kind.TOKENS:
            raise DataError("Of tokens a few figures are kept and no probabilities of all classes.")


def agreement(a: Floats, b: Floats, *, kind: Kind | str = Kind.SINGLE_LABEL) -> float:
    """How far two models answer alike on the same rows, whatever the truth; 1 is always.

    - `single_label`: share of rows with the same most likely class, from logits `[N, C]`.
    - `multi_label`: share of decisions (a label is on if its logit is above zero) `[N, L]`.
    - `regression`: mean over outputs of Pearson's correlation of the values `[N, O]`; an output
      that does not vary counts 1 if both models are equal there and 0 if not.
    - `embedding`: share of rows whose nearest other row is the same one, from vectors `[N, D]`,
      whose widths may differ.
    - `transcript`: share of sounds that are written down alike, from digests `[N, 1 + K]`.
    - `tokens`: share of positions with the same likeliest token, from digests `[N, 3]`.

    Raises:
        DataError: the shapes differ or there are no rows.
    """
    same = len(a) == len(b) if kind == Kind.EMBEDDING else a.shape == b.shape
    if not same or len(a) == 0:
        raise DataError(
            f"Agreement needs the same rows from both models, got {a.shape} and {b.shape}; "
            "compute both on the same test data."
        )
    match Kind(kind):
        case Kind.SINGLE_LABEL:
            return float(np.mean(a.argmax(axis=-1) == b.argmax(axis=-1)))
        case Kind.MULTI_LABEL:
            return float(np.mean((a > 0) == (b > 0)))
        case Kind.TOKENS:
            return float(np.mean(a[:, CHOSEN] == b[:, CHOSEN]))
        case Kind.TRANSCRIPT:
            return float(np.mean((a[:, 1:] == b[:, 1:]).all(axis=1)))
        case Kind.EMBEDDING:
            return float(np.mean(_nearest(a) == _nearest(b)))
        case Kind.REGRESSION:
            return _correlation(a.reshape(len(a), -1), b.reshape(len(b), -1))


def calibration_error(probs: Floats, labels: Integers | Floats, *, bins: int = 15) -> Calibration:
    """Expected calibration error over equal-width bins of confidence.

    The mean over rows of |accuracy - confidence| of the row's bin
    (Guo et al. 2017, arXiv:1706.04599).

    With labels `[N]`, confidence is the largest probability and accuracy whether that class is
    right. With labels `[N, L]` of zeros and ones, every decision counts by itself: confidence is
    that of the decision taken (0.5 to 1).

    Args:
        probs: `[N, C]`, rows sum to one; or `[N, L]`, independent probabilities.
        labels: `[N]` classes or `[N, L]` zeros and ones.
        bins: how many; empty ones are reported with a count of zero.
    """
    return _reliability(*_decisions(probs, labels), bins=bins)


def token_calibration(digest_N3: Floats, labels_N: Integers, *, bins: int = 15) -> Calibration:
    """As `calibration_error`, of the likeliest token at each position."""
    correct = (digest_N3[:, CHOSEN].astype(np.int64) == labels_N).astype(np.float64)
    return _reliability(digest_N3[:, SURE].astype(np.float64), correct, bins=bins)


def _reliability(
    confidence: NDArray[np.float64], correct: NDArray[np.float64], *, bins: int
) -> Calibration:
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    sums = np.bincount(index, weights=confidence, minlength=bins)
    hits = np.bincount(index, weights=correct, minlength=bins)
    ece = float(np.abs(hits - sums).sum() / max(len(confidence), 1))
    table = [
        Bin(
            lower=float(edges[i]),
            upper=float(edges[i + 1]),
            count=int(counts[i]),
            confidence=float(sums[i] / counts[i]) if counts[i] else None,
            accuracy=float(hits[i] / counts[i]) if counts[i] else None,
        )
        for i in range(bins)
    ]
    return Calibration(ece=ece, bins=table)


def confusion(labels_N: Integers, predicted_N: Integers, *, num_classes: int) -> list[list[int]]:
    """`[C][C]` counts: row is the true class, column the predicted one."""
    both = np.concatenate([labels_N, predicted_N])
    if len(both) and not (both.min() >= 0 and both.max() < num_classes):
        raise DataError(
            f"Classes must lie in 0..{num_classes - 1}, got {both.min()}..{both.max()}; "
            "check the number of classes."
        )
    flat = labels_N.astype(np.int64) * num_classes + predicted_N.astype(np.int64)
    counts = np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)
    return [[int(n) for n in row] for row in counts]


def per_class(table: list[list[int]]) -> PerClass:
    """Support, sensitivity (recall), specificity and precision of each class of a confusion.

    Sensitivity of a class is its accuracy on the rows that belong to it.
    """
    counts = np.asarray(table, dtype=np.float64)
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    others = counts.sum() - true
    rejected = others - (predicted - hits)
    return PerClass(
        support=[int(n) for n in true],
        sensitivity=_shares(hits, true),
        specificity=_shares(rejected, others),
        precision=_shares(hits, predicted),
    )


def brier(probs: Floats, labels: Integers | Floats) -> float:
    """Mean over rows of the squared distance of probabilities to the truth (Brier 1950).

    Labels `[N]` are read as one-hot rows, so the score lies in 0..2; with labels `[N, L]` it is the
    mean over decisions and lies in 0..1.
    """
    if labels.ndim == 2:
        return float(np.mean((probs - labels) ** 2))
    truth = np.zeros_like(probs, dtype=np.float64)
    truth[np.arange(len(labels)), labels.astype(np.int64)] = 1.0
    return float(np.mean(((probs - truth) ** 2).sum(axis=-1)))


def nll(probs: Floats, labels: Integers | Floats) -> float:
    """Mean negative log-likelihood in nats: a row for labels `[N]`, a decision for `[N, L]`.

    Probabilities are clipped to 1e-12, so that a confident mistake costs at most 27.6.
    """
    if labels.ndim == 2:
        likelihood = np.where(labels > 0.5, probs, 1.0 - probs)
    else:
        likelihood = probs[np.arange(len(labels)), labels.astype(np.int64)]
    return float(-np.mean(np.log(np.clip(likelihood, TINY, 1.0))))


def _decisions(
    probs: Floats, labels: Integers | Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Confidence and correctness (0 or 1) of every decision, flat."""
    if labels.ndim == 2:
        is_on = probs >= 0.5
        confidence = np.where(is_on, probs, 1.0 - probs)
        correct = is_on == (labels > 0.5)
    else:
        confidence = probs.max(axis=-1)
        correct = probs.argmax(axis=-1) == labels
    return confidence.astype(np.float64).ravel(), correct.astype(np.float64).ravel()


def _shares(part: NDArray[np.float64], whole: NDArray[np.float64]) -> list[float | None]:
    return [float(p / w) if w > 0 else None for p, w in zip(part, whole, strict=True)]


def _nearest(vectors_ND: Floats) -> NDArray[np.int64]:
    """`[N]`, the other row at the smallest angle."""
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND = vectors_ND / np.maximum(lengths_N1, TINY)
    found = []
    for start in range(0, len(unit_ND), 512):
        cosines = unit_ND[start : start + 512] @ unit_ND.T
        places = np.arange(len(cosines))
        cosines[places, places + start] = -np.inf
        found.append(cosines.argmax(axis=1))
    return np.concatenate(found)


def _correlation(a_NO: Floats, b_NO: Floats) -> float:
    a, b = a_NO.astype(np.float64), b_NO.astype(np.float64)
    scores = []
    for column in range(a.shape[1]):
        x, y = a[:, column] - a[:, column].mean(), b[:, column] - b[:, column].mean()
        scale = float(np.sqrt((x @ x) * (y @ y)))
        if scale > TINY:
            scores.append(float(x @ y) / scale)
        else:
            scores.append(float(np.allclose(a[:, column], b[:, column])))
    return float(np.mean(scores))
