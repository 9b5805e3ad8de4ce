"""Counting answers: against scikit-learn, and by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from potstill.report import answers as counting
from potstill.report.answers import Answers, read_answers
from potstill.report.folder import RunFolder

RunOf = Callable[[str], RunFolder]


def answers_of(run: RunFolder) -> Answers:
    found = read_answers(run)
    assert found is not None
    return found


def small(logits: list[list[float]], labels: list[float], kind: str = "single_label") -> Answers:
    values = np.array(logits)
    names = tuple("abcdef"[: values.shape[1]])
    return Answers(ids=np.arange(len(values)), labels=np.array(labels), kind=kind, names=names,
                   by_role={"distilled": {0: values}})  # fmt: skip


def test_confusion_and_recall_equal_scikit_learn(run_of: RunOf) -> None:
    answers = answers_of(run_of("image"))
    said = [v.argmax(1) for v in answers.by_role["scratch"].values()]

    counts = counting.confusion(answers, "scratch")

    expected = np.mean([confusion_matrix(answers.labels, s) for s in said], axis=0)
    np.testing.assert_allclose(counts, expected)
    recalls = np.mean([recall_score(answers.labels, s, average=None) for s in said], axis=0)
    np.testing.assert_allclose(counting.recall(counts), recalls)


def test_label_f1_equals_scikit_learn(run_of: RunOf) -> None:
    answers = answers_of(run_of("signal"))
    each = answers.by_role["distilled"].values()

    found = counting.label_f1(answers, "distilled")

    expected = [f1_score(answers.labels > 0.5, v > 0, average=None) for v in each]
    np.testing.assert_allclose(found, np.mean(expected, axis=0))


def test_a_class_without_samples_has_no_recall() -> None:
    answers = small([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [0, 1])

    found = counting.recall(counting.confusion(answers, "distilled"))

    np.testing.assert_array_equal(found, [1.0, 1.0, np.nan])


def test_reliability_counts_by_hand() -> None:
    # Two classes; the logit margin m gives confidence sigmoid(m).
    margins = [0.0, 0.1, 3.0, 3.1]  # 0.50, 0.52, 0.953, 0.957
    answers = small([[m, 0.0] for m in margins], [0, 1, 0, 0])

    bins = counting.reliability(answers, "distilled", num_bins=10)

    assert bins.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert bins.right[5] == 0.5
    assert bins.right[9] == 1.0
    sure = 1 / (1 + np.exp(-np.array(margins)))
    assert bins.confidence[9] == pytest.approx(sure[2:].mean())


def test_probabilities_survive_large_and_infinite_logits() -> None:
    logits = np.array([[1e4, 0.0, -np.inf]])

    assert counting.probabilities(logits, "single_label").tolist() == [[1.0, 0.0, 0.0]]
    assert counting.probabilities(logits, "multi_label")[0, 1] == 0.5


def test_a_role_with_one_seed_stands_for_all_seeds(run_of: RunOf) -> None:
    answers = answers_of(run_of("image"))

    np.testing.assert_array_equal(answers.of("teacher", seed=3), answers.by_role["teacher"][0])
    assert answers.roles == ("teacher", "scratch", "distilled")


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        ("single_label", [0, 1], [0, 1]),  # the second is taken for class 0
        ("multi_label", [[1, 0], [0, 1]], [0, 2]),  # both labels of the second are wrong
        ("regression", [[2.0, 0.0], [1.0, 1.0]], [0, 0.5]),  # the mean over outputs
    ],
)
def test_errors_of_each_kind(kind: str, labels: list, expected: list[float]) -> None:
    answers = small([[2.0, 0.0], [1.0, 0.0]], labels, kind)

    assert counting.errors_of(answers, "distilled", seed=0).tolist() == expected
