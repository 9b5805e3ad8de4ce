"""What the models answered on the test data, and what follows from it by counting.

Shapes: N samples, C classes (or labels), O regression outputs, B bins.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.errors import StorageError
from potstill.report.folder import RunFolder
from potstill.report.records import ROLES, DataFacts
from potstill.report.transcripts import unlike

Floats = NDArray[np.float64]
Outputs = NDArray[np.float32]  # as they are stored: a large test set has many of them
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Every role's answers, seed by seed, beside the labels.

    Args:
        ids: `[N]`, the identity of each sample.
        labels: `[N]` classes, `[N, C]` labels (0 or 1) or `[N, O]` values.
        by_role: role → seed → `[N, C]` logits or `[N, O]` values.
        kind: `single_label`, `multi_label`, `regression`, or `tokens`, of which three figures are
            kept a row: -log p(label), the likeliest token and its probability; or `transcript`, of
            which -log p(text) and the letters are kept, and labels are `[N, U]` letters.
        names: of the classes, labels or outputs.
    """

    ids: Ints
    labels: Floats
    by_role: Mapping[str, Mapping[int, Outputs]]
    kind: str
    names: tuple[str, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that answered: teacher, scratch, distilled, then any others."""
        others = sorted(set(self.by_role) - set(ROLES))
        return tuple(role for role in (*ROLES, *others) if role in self.by_role)

    @property
    def main_roles(self) -> tuple[str, ...]:
        """Those of teacher, scratch and distilled that answered."""
        return tuple(role for role in ROLES if role in self.by_role)

    def of(self, role: str, *, seed: int) -> Outputs:
        """One model's answers; a role that ran with fewer seeds answers with its first."""
        seeds = self.by_role[role]
        return seeds[seed] if seed in seeds else seeds[min(seeds)]

    def first_seed(self) -> int:
        """The lowest seed of the distilled student (or of whoever answered)."""
        role = "distilled" if "distilled" in self.by_role else self.roles[-1]
        return min(self.by_role[role])


@dataclass(frozen=True, kw_only=True)
class Bins:
    """A reliability diagram: `[B]` mean confidence, `[B]` share right, `[B]` how many."""

    confidence: Floats
    right: Floats
    count: Ints


def read_answers(run: RunFolder) -> Answers | None:
    """The answers in `predictions.npz`, or nothing if there are none.

    Raises:
        StorageError: the arrays do not fit together.
    """
    arrays = run.predictions
    by_role: dict[str, dict[int, Outputs]] = {}
    for key, values in arrays.items():
        role, _, seed = key.rpartition("_")
        if role and seed.isdigit():
            by_role.setdefault(role, {})[int(seed)] = _matrix(values).astype(np.float32)
    if not by_role or "labels" not in arrays:
        return None
    labels = arrays["labels"]
    for role, seeds in by_role.items():
        for number, values in seeds.items():
            if len(values) != len(labels):
                raise StorageError(
                    f"`{run.path / 'predictions.npz'}` has {len(values)} rows in `{role}_{number}` "
                    f"and {len(labels)} in `labels`. Remove the file and run the recipe again."
                )
    facts = run.results.data if run.results else DataFacts()
    if facts.target_kind in ("embedding", "boxes"):  # which no chart here shows
        return None
    width = max(v.shape[1] for seeds in by_role.values() for v in seeds.values())
    return Answers(
        ids=arrays.get("ids", np.arange(len(labels))).astype(np.int64),
        labels=(_matrix(labels) if facts.target_kind == "regression" else labels).astype(
            np.float64
        ),
        by_role=by_role,
        kind=facts.target_kind,
        names=_names(facts, width),
    )


def _matrix(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values[:, None] if values.ndim == 1 else values


def _names(facts: DataFacts, width: int) -> tuple[str, ...]:
    given = facts.classes or ()
    if facts.target_kind == "transcript":
        return given
    word = "output" if facts.target_kind == "regression" else "class"
    rest = tuple(str(i) if word == "class" else f"{word} {i}" for i in range(len(given), width))
    return (*given[:width], *rest)


def probabilities(outputs_NC: Outputs, kind: str) -> Floats:
    """Softmax over classes, or a sigmoid for each label, in double precision."""
    logits_NC = outputs_NC.astype(np.float64)
    if kind == "multi_label":
        return 1.0 / (1.0 + np.exp(-np.clip(logits_NC, -60.0, 60.0)))
    shifted = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float64)


def confusion(answers: Answers, role: str) -> Floats:
    """`[C, C]` counts, true by predicted, averaged over seeds."""
    num_classes = len(answers.names)
    labels = answers.labels.astype(np.int64)
    total = np.zeros((num_classes, num_classes))
    for logits_NC in answers.by_role[role].values():
        cell = labels * num_classes + logits_NC.argmax(axis=1)
        total += np.bincount(cell, minlength=num_classes**2).reshape(num_classes, num_classes)
    return total / len(answers.by_role[role])


def recall(counts_CC: Floats) -> Floats:
    """`[C]` share of each class that was recognised; NaN for a class without samples."""
    rows = counts_CC.sum(axis=1)
    return np.where(rows > 0, np.diag(counts_CC) / np.where(rows > 0, rows, 1.0), np.nan)


def label_f1(answers: Answers, role: str) -> Floats:
    """`[C]` F1 of each label at probability one half, averaged over seeds."""
    truth = answers.labels > 0.5
    scores = []
    for logits_NC in answers.by_role[role].values():
        said = logits_NC > 0
        hits = (said & truth).sum(axis=0)
        either = said.sum(axis=0) + truth.sum(axis=0)
        scores.append(np.where(either > 0, 2 * hits / np.where(either > 0, either, 1), np.nan))
    return np.asarray(np.mean(scores, axis=0), dtype=np.float64)


def reliability(answers: Answers, role: str, *, num_bins: int = 10) -> Bins:
    """How often the model is right when it says it is this sure, pooled over seeds.

    For multi-label targets each label of each sample counts as one answer.
    """
    pairs = [_confidence(answers, logits) for logits in answers.by_role[role].values()]
    sure = np.concatenate([sure for sure, _ in pairs])
    right = np.concatenate([right for _, right in pairs])
    place = np.minimum((sure * num_bins).astype(np.int64), num_bins - 1)
    count = np.bincount(place, minlength=num_bins)
    safe = np.maximum(count, 1)
    return Bins(
        confidence=np.bincount(place, weights=sure, minlength=num_bins) / safe,
        right=np.bincount(place, weights=right.astype(np.float64), minlength=num_bins) / safe,
        count=count,
    )


def _confidence(answers: Answers, logits_NC: Outputs) -> tuple[Floats, Bools]:
    if answers.kind == "tokens":
        return logits_NC[:, 2].astype(np.float64), logits_NC[:, 1] == answers.labels
    probs_NC = probabilities(logits_NC, answers.kind)
    if answers.kind == "multi_label":
        said = probs_NC > 0.5
        sure = np.where(said, probs_NC, 1 - probs_NC)
        return sure.ravel(), np.asarray(said == (answers.labels > 0.5)).ravel()
    return probs_NC.max(axis=1), np.asarray(probs_NC.argmax(axis=1) == answers.labels)


def errors_of(answers: Answers, role: str, *, seed: int) -> Floats:
    """`[N]` how wrong one model is: 0 or 1, the number of wrong labels, or |error|."""
    values = answers.of(role, seed=seed)
    if answers.kind == "multi_label":
        wrong = (values > 0) != (answers.labels > 0.5)
        return np.asarray(wrong.sum(axis=1), dtype=np.float64)
    if answers.kind == "regression":
        return np.asarray(np.abs(values - answers.labels).mean(axis=1), dtype=np.float64)
    if answers.kind == "transcript":
        return unlike(values, answers.labels).astype(np.float64)
    return np.asarray(values.argmax(axis=1) != answers.labels, dtype=np.float64)
