"""Which metric decides, and how much classes count."""

import pytest
import torch

from potstill.build.weighing import class_weights, weighed
from potstill.data import load
from potstill.errors import RecipeError
from potstill.losses import KD, CrossEntropy, ExitCrossEntropy
from potstill.recipe import parse
from potstill.tasks import Classification, MultiLabel, Regression


def _recipe(**changes):
    return parse(
        {
            "name": "r",
            "data": {"source": "builtin", "name": "breast_cancer"},
            "teacher": {"model": {"source": "sklearn", "name": "random_forest"}},
            "student": {"model": {"name": "mlp"}},
            **changes,
        }
    )


def test_the_metric_that_decides_is_an_option_of_the_task() -> None:
    assert Classification().primary == "accuracy"
    assert Classification(primary="balanced_accuracy").primary == "balanced_accuracy"
    assert MultiLabel(primary="average_precision").higher_is_better
    assert not Regression(primary="mae").higher_is_better
    assert Regression(primary="r2").higher_is_better
    assert vars(Classification()) == {}
    with pytest.raises(RecipeError, match="cannot decide in regression; did you mean `rmse`"):
        Regression(primary="rsme")


@pytest.mark.parametrize(("way", "power"), [("balanced", 1.0), ("sqrt", 0.5)])
def test_rare_classes_count_more_and_the_mean_row_as_before(way, power) -> None:
    data = load("builtin", {"name": "breast_cancer"})
    counts = torch.bincount(data.train.labels).double()

    weights = torch.tensor(class_weights(_recipe(class_weights=way), data), dtype=torch.float64)

    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1.0, abs=1e-5)
    ratio = float((counts[1] / counts[0]) ** power)
    assert float(weights[0] / weights[1]) == pytest.approx(ratio, rel=1e-4)


def test_cross_entropy_of_the_objective_is_weighed_alike() -> None:
    task = Classification(class_weights=(0.5, 2.0))
    objective = 0.9 * KD(temperature=2) + 0.1 * CrossEntropy()

    assert repr(weighed(objective, task)) == (
        "0.9 * KD(temperature=2) + 0.1 * CrossEntropy(class_weights=(0.5, 2.0))"
    )
    exits = weighed(ExitCrossEntropy() + CrossEntropy(), task)
    assert [term.class_weights for _, term in exits] == [(0.5, 2.0)] * 2
    assert repr(task.default_objective()) == "CrossEntropy(class_weights=(0.5, 2.0))"
    assert weighed(objective, Classification()) is objective


def test_tasks_with_one_way_to_be_scored_take_no_other() -> None:
    from potstill.build.weighing import predicting_task, refuse_weighing

    with pytest.raises(RecipeError, match="the task is tagging"):
        refuse_weighing(_recipe(task="tagging", primary="f1"))
    data = load("builtin", {"name": "breast_cancer"})
    with pytest.raises(RecipeError, match="is for classification"):
        predicting_task(_recipe(task="regression", class_weights="sqrt"), data)
