"""Scores and metrics of the tasks against numbers worked out by hand."""

import pytest
import torch
from torch import nn

from potstill.errors import ModelError
from potstill.signals import Batch
from potstill.tasks import Classification, MultiLabel, Regression
from potstill.testing import tiny_mlp
from potstill.train.evaluate import Answers, answers_of, score


def _answers(outputs, labels) -> Answers:
    return Answers(torch.tensor(outputs), torch.tensor(labels), torch.arange(len(labels)))


def test_accuracy_and_mean_recall_by_hand() -> None:
    outputs = [[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [2.0, 0.0, 0.0]]

    found = score(_answers(outputs, [0, 0, 0, 2, 1]), Classification())

    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert "top5_accuracy" not in found
    assert "auroc" not in found


def test_two_classes_have_a_roc_area_and_many_a_top_five() -> None:
    two = score(_answers([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], [0, 1, 1]), Classification())
    many = score(_answers(torch.eye(12).tolist(), list(range(12))), Classification())

    assert two["auroc"] == pytest.approx(1.0)
    assert many["top5_accuracy"] == pytest.approx(1.0)


def test_labels_are_scored_one_by_one() -> None:
    labels = [[1.0, 0.0], [1.0, 1.0]]

    found = score(_answers([[3.0, -3.0], [3.0, -3.0]], labels), MultiLabel())

    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["f1_macro"] == pytest.approx((1 + 0) / 2)


def test_errors_of_values() -> None:
    found = score(_answers([[1.0], [2.0], [5.0]], [[1.0], [2.0], [3.0]]), Regression())

    assert found["rmse"] == pytest.approx((4 / 3) ** 0.5)
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["r2"] == pytest.approx(1 - 4 / 2)


def test_only_the_error_is_better_when_lower() -> None:
    assert Classification.higher_is_better
    assert MultiLabel.higher_is_better
    assert not Regression.higher_is_better


def test_evaluation_restores_the_mode_of_every_part() -> None:
    class One:
        num_batches = 1

        def batch(self, epoch, index):
            return Batch(torch.ones(3, 4), torch.tensor([0, 1, 0]))

    model = tiny_mlp(4, 5, 2, dropout=0.5, norm=True).train()
    model[1].eval()

    first = answers_of(model, One(), Classification())
    again = answers_of(model, One(), Classification())

    assert torch.equal(first.outputs, again.outputs), "dropout is off"
    assert [m.training for m in model] == [True, False, True, True, True]
    assert model.training


def test_a_model_must_answer_rows() -> None:
    with pytest.raises(ModelError, match=r"answered \(2, 1, 4\) for 2 samples"):
        Classification().forward(nn.Unflatten(1, (1, 4)), Batch(torch.ones(2, 4)))
