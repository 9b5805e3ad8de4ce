"""Made-up rows: from training rows alone, columns kept together, the same for a seed."""

import numpy as np
import pytest
import torch

from potstill.data import Synthetic, TableColumn, TableForm, Way, from_arrays, with_synthetic
from potstill.errors import RecipeError


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(120, 4)).astype(np.float32)
    inputs[:, 1] = rng.integers(0, 5, 120)
    return from_arrays(inputs, rng.integers(0, 2, 120))


@pytest.mark.parametrize("way", list(Way))
def test_rows_are_unlabelled_transfer_data_of_their_own(data, way) -> None:
    made = with_synthetic(data, Synthetic(rows=50, way=way))
    again = with_synthetic(data, Synthetic(rows=50, way=way))
    other = with_synthetic(data, Synthetic(rows=50, way=way, seed=1))

    assert made.transfer.inputs.shape == (50, 4)
    assert made.transfer.labels is None
    every = torch.cat([data.train.ids, data.validation.ids, data.test.ids, made.transfer.ids])
    assert len(every.unique()) == len(every)
    assert torch.equal(made.transfer.inputs, again.transfer.inputs)
    assert not torch.equal(made.transfer.inputs, other.transfer.inputs)
    assert made.fingerprint() != data.fingerprint()


def test_smeared_cells_are_cells_of_the_training_part(data) -> None:
    made = with_synthetic(data, Synthetic(rows=200, way=Way.SMEAR)).transfer.inputs

    for column in range(4):
        assert torch.isin(made[:, column], data.train.inputs[:, column]).all()
    whole = (made[:, None] == data.train.inputs[None]).all(-1).any(-1)
    assert whole.float().mean() < 0.3


def test_munged_numbers_that_are_whole_stay_so(data) -> None:
    made = with_synthetic(data, Synthetic(rows=200)).transfer.inputs

    assert torch.isin(made[:, 1], data.train.inputs[:, 1]).all()
    assert not torch.isin(made[:, 0], data.train.inputs[:, 0]).all()


def test_the_columns_of_a_category_are_taken_together() -> None:
    rng = np.random.default_rng(0)
    hot = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 90)]
    data = from_arrays(hot, rng.integers(0, 2, 90))
    form = TableForm((TableColumn(name="colour", categories=("a", "b", "c")),))
    object.__setattr__(data, "table", form)

    for way in Way:
        made = with_synthetic(data, Synthetic(rows=100, way=way)).transfer.inputs
        assert (made.sum(1) == 1).all()


def test_wrong_requests_are_refused(data) -> None:
    images = from_arrays(np.zeros((20, 8, 8), dtype=np.uint8), np.arange(20) % 2)

    with pytest.raises(RecipeError, match="made of tables"):
        with_synthetic(images, Synthetic(rows=5))
    with pytest.raises(RecipeError, match="`swap` of synthetic rows is 0"):
        Synthetic(rows=5, swap=0)
