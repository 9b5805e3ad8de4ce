"""Distances and correlations against NumPy and against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.functional import distances

vectors = st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=8)


def random_pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    return one, two


def test_pearson_equals_numpy_along_both_axes() -> None:
    one, two = random_pair(5, 7)

    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.numpy(), two.numpy(), strict=True)]
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.T.numpy(), two.T.numpy(), strict=True)]

    np.testing.assert_allclose(distances.pearson(one, two, dim=1), rows, rtol=1e-12)
    np.testing.assert_allclose(distances.pearson(one, two, dim=0), columns, rtol=1e-12)


def test_masked_observations_are_left_out_of_the_correlation() -> None:
    one, two = random_pair(6, 3)
    mask = torch.tensor([True, False, True, True, False, True])[:, None]

    masked = distances.pearson(one, two, dim=0, mask=mask)

    kept = mask[:, 0]
    torch.testing.assert_close(masked, distances.pearson(one[kept], two[kept], dim=0))


@settings(max_examples=60, deadline=None)
@given(vectors, st.floats(0.1, 10), st.floats(-10, 10))
def test_correlation_ignores_scale_and_offset(values, scale: float, shift: float) -> None:
    one = torch.tensor(values, dtype=torch.float64) + torch.arange(len(values)) * 30
    two = torch.arange(len(values), dtype=torch.float64).square()

    plain = distances.pearson(one, two, dim=0)

    assert -1 - 1e-9 <= float(plain) <= 1 + 1e-9
    torch.testing.assert_close(distances.pearson(scale * one + shift, two, dim=0), plain)
    torch.testing.assert_close(distances.pearson(-one, two, dim=0), -plain)


def test_cosine_equals_the_library() -> None:
    one, two = random_pair(4, 6, 3)

    ours = distances.cosine_similarity(one, two, dim=1)

    torch.testing.assert_close(ours, torch.cosine_similarity(one, two, dim=1))


@pytest.mark.parametrize("function", [distances.pearson, distances.cosine_similarity])
def test_a_vector_without_direction_gives_zero_and_no_gradient(function) -> None:
    flat = torch.zeros(2, 5, requires_grad=True)

    value = function(flat, torch.randn(2, 5), dim=1)
    value.sum().backward()

    assert torch.equal(value.detach(), torch.zeros(2))
    assert torch.equal(flat.grad, torch.zeros(2, 5))


@pytest.mark.parametrize(
    "function",
    [
        distances.squared_error,
        lambda a, b: distances.huber(a, b, delta=0.7),
        lambda a, b: distances.pearson(a, b, dim=0),
        lambda a, b: distances.pearson(a, b, dim=1),
        lambda a, b: distances.cosine_similarity(a, b, dim=1),
    ],
    ids=["squared", "huber", "pearson 0", "pearson 1", "cosine"],
)
def test_gradients_are_those_of_the_values(function) -> None:
    one, two = random_pair(4, 5)

    assert torch.autograd.gradcheck(lambda s: function(s, two), one.requires_grad_())


def test_huber_is_quadratic_near_and_linear_far() -> None:
    errors = torch.tensor([0.0, 0.25, 0.5, 2.0])

    values = distances.huber(errors, torch.zeros(4), delta=0.5)

    torch.testing.assert_close(values, torch.tensor([0.0, 0.03125, 0.125, 0.875]))
