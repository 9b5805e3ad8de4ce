"""Masks select instead of multiplying, and dividing by nothing gives zero."""

import pytest
import torch

from potstill.functional import reductions


def test_masked_rows_reach_neither_value_nor_gradient() -> None:
    values = torch.tensor([[1.0, 2.0], [float("nan"), float("inf")]], requires_grad=True)
    mask = torch.tensor([True, False])

    kept = reductions.keep_rows(values, mask)
    kept.exp().sum().backward()

    assert torch.equal(kept.detach(), torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    assert torch.equal(values.grad[1], torch.zeros(2))


def test_no_mask_gives_the_very_same_tensor() -> None:
    values = torch.randn(3, 2)

    assert reductions.keep_rows(values, None) is values


def test_whole_numbers_stay_whole() -> None:
    labels = reductions.keep_rows(torch.tensor([4, -100]), torch.tensor([True, False]))

    assert labels.tolist() == [4, 0]
    assert labels.dtype is torch.int64


@pytest.mark.parametrize("count", [0, torch.tensor(0)], ids=["int", "tensor"])
def test_nothing_to_count_gives_zero(count) -> None:
    total = torch.zeros((), requires_grad=True)

    value = reductions.divide(total, count)
    value.backward()

    assert float(value.detach()) == 0
    assert torch.isfinite(total.grad)


@pytest.mark.parametrize("count", [3, torch.tensor(3)], ids=["int", "tensor"])
def test_the_sum_is_divided_by_the_count(count) -> None:
    assert float(reductions.divide(torch.tensor(6.0), count)) == 2
    assert float(reductions.sum_rows(torch.tensor([1.0, 2.0, 4.0]), None)) == 7
