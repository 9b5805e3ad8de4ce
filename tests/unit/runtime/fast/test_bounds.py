"""How far answers are apart, and what is too far."""

import math

import pytest
import torch

from potstill.errors import RecipeError
from potstill.runtime.fast import Bounds, Difference, compare


def test_agreement_and_kl_by_hand() -> None:
    exact = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    fast = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]])

    found = compare(exact, fast, kind="single_label")

    assert found.agreement == pytest.approx(0.5)
    kl = 0.75 * math.log(3.0) + 0.25 * math.log(1 / 3)  # of the second row
    assert found.kl == pytest.approx(kl / 2)
    assert found.error is None


def test_a_constant_added_to_a_row_is_no_difference_unless_logits_are_read_raw() -> None:
    exact = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))

    assert compare(exact, exact + 3, kind="single_label").broken(Bounds()) is None
    assert "relative error" in str(
        compare(exact, exact + 3, kind="single_label", raw=True).broken(Bounds())
    )


def test_values_are_compared_by_their_relative_error() -> None:
    exact = torch.tensor([[1.0], [3.0]])  # spread around the mean: norm of (-1, 1)

    found = compare(exact, exact + torch.tensor([[0.1], [0.0]]), kind="regression")

    assert found.error == pytest.approx(0.1 / math.sqrt(2), rel=1e-5)
    assert found.agreement is None


def test_inf_and_nan_are_refused() -> None:
    exact = torch.zeros(2, 3)
    for bad in (math.nan, math.inf):
        fast = exact.clone()
        fast[0, 0] = bad
        assert "not finite" in str(compare(exact, fast, kind="single_label").broken(Bounds()))


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Difference(agreement=0.9), "agreement 0.9 is under the bound of 0.98"),
        (Difference(kl=0.5), "KL 0.5 is over the bound of 0.01"),
        (Difference(gradient=0.5), "cosine of gradients 0.5 is under the bound of 0.99"),
        (Difference(loss=0.5), "relative difference of the loss 0.5 is over the bound of 0.01"),
    ],
)
def test_what_is_out_of_bounds_is_named_with_its_bound(difference, words) -> None:
    assert difference.broken(Bounds()) == words


def test_a_bound_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"bounds.agreement. is 1.5"):
        Bounds(agreement=1.5)
