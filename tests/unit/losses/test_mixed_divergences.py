"""Divergences between forward and reverse KL: their corners, scales and weights."""

import math

import pytest
import torch

from potstill import losses as L
from potstill.errors import RecipeError
from potstill.functional.adaptive import head_share
from potstill.signals import Target

from .cases import N, evaluate, logits, relative

CORNERS = [
    (L.AlphaBeta(alpha=1, beta=0, temperature=2), L.KD(temperature=2)),
    (L.AlphaBeta(alpha=0, beta=1, temperature=2), L.ReverseKL(temperature=2)),
    (L.JSD(beta=0, temperature=2, scale="even"), L.KD(temperature=2)),
    (L.JSD(beta=1, temperature=2, scale="even"), L.ReverseKL(temperature=2)),
    (L.JSD(beta=0, scale="trl"), L.KD(temperature=1)),
    (L.JSD(beta=1, scale="trl"), L.ReverseKL()),
]


@pytest.mark.parametrize(("term", "limit"), CORNERS, ids=repr)
def test_the_corners_are_the_divergences_they_are_named_after(term, limit) -> None:
    student, teacher = logits(seed=1), logits(seed=2)

    value, _, gradient = evaluate(term, student, teacher, Target(N))

    expected, _, expected_gradient = evaluate(limit, student, teacher, Target(N))
    assert relative(value, expected) < 1e-5
    assert relative(gradient, expected_gradient) < 1e-5


NEAR = [
    (lambda e: L.AlphaBeta(alpha=1, beta=e), L.KD(temperature=1)),
    (lambda e: L.AlphaBeta(alpha=e, beta=1), L.ReverseKL()),
    (lambda e: L.JSD(beta=e, scale="even"), L.KD(temperature=1)),
    (lambda e: L.JSD(beta=1 - e, scale="even"), L.ReverseKL()),
]


@pytest.mark.parametrize(("near", "limit"), NEAR)
@pytest.mark.parametrize("distance", [1e-3, 1e-4, 1e-6])
def test_nothing_jumps_on_the_way_to_a_corner(near, limit, distance: float) -> None:
    student, teacher = logits(seed=1), logits(seed=2)  # float32: the way must not lose digits

    value, _, gradient = evaluate(near(distance), student, teacher, Target(N))

    expected, _, expected_gradient = evaluate(limit, student, teacher, Target(N))
    assert relative(value, expected) < 60 * distance + 1e-5  # p / q is up to 60 here
    assert relative(gradient, expected_gradient) < 60 * distance + 1e-5


def test_the_even_scale_is_that_of_kd_in_the_middle_too() -> None:
    # Close to the teacher all of them are half of the chi-square distance.
    teacher = logits(seed=2).double()
    student = teacher + 1e-3 * logits(seed=1).double()

    values = [
        float(evaluate(term, student, teacher, Target(N))[0])
        for term in [L.JSD(beta=b, scale="even") for b in (0, 0.1, 0.5, 0.9, 1)]
    ]

    assert max(values) / min(values) < 1.01


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_plain_ends_are_refused(beta: float) -> None:
    with pytest.raises(RecipeError, match="beta"):
        L.JSD(beta=beta)


def test_options_that_cannot_teach_are_refused() -> None:
    with pytest.raises(RecipeError, match="at least one of them above 0"):
        L.AlphaBeta(alpha=0, beta=0)
    with pytest.raises(RecipeError, match=r"alpha=-0\.1"):
        L.AlphaBeta(alpha=-0.1)
    with pytest.raises(RecipeError, match="head=1"):
        L.AdaptiveKL(head=1)
    with pytest.raises(RecipeError, match='one of "plain", "even", "trl"'):
        L.JSD(scale="odd")
    with pytest.raises(RecipeError, match="at most 1"):
        L.JSD(beta=1.5, scale="even")


@pytest.mark.parametrize(
    "term",
    [
        L.AlphaBeta(),
        L.AlphaBeta(alpha=0, beta=0.5),
        L.AlphaBeta(alpha=0.5, beta=0),
        L.AdaptiveKL(),
        L.JSD(beta=0.2, scale="even"),
    ],
    ids=repr,
)
def test_a_student_equal_to_the_teacher_has_no_loss_and_no_gradient(term) -> None:
    both = logits(seed=1)

    value, _, gradient = evaluate(term, both, both.clone(), Target(N))

    assert float(value) == 0 or abs(float(value)) < 2e-6
    assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("term", [L.AlphaBeta(), L.AlphaBeta(alpha=0.3, beta=0), L.AdaptiveKL()])
def test_the_square_of_the_temperature_is_in_value_and_gradient(term) -> None:
    student, teacher = logits(seed=1), logits(seed=2)
    options = {
        name: getattr(term, name) for name in ("alpha", "beta", "head") if hasattr(term, name)
    }

    value, _, gradient = evaluate(type(term)(**options, temperature=5), student, teacher, Target(N))

    cold, _, cold_gradient = evaluate(term, student / 5, teacher / 5, Target(N))
    torch.testing.assert_close(value, 25 * cold, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, 5 * cold_gradient, rtol=1e-4, atol=1e-5)


def test_classes_that_the_teacher_rules_out_add_what_the_formula_says() -> None:
    student, teacher = torch.zeros(1, 2).double(), torch.tensor([[0.0, -math.inf]]).double()

    value, _, gradient = evaluate(L.AlphaBeta(alpha=0.5, beta=0.5), student, teacher, Target(1))

    # p = (1, 0), q = (1/2, 1/2): D = -4 (sqrt(1/2) - 1/2 - 1/2)
    assert float(value) == pytest.approx(4 * (1 - math.sqrt(0.5)), rel=1e-6)
    assert torch.isfinite(gradient).all()


def test_the_head_is_the_smallest_set_of_likely_classes() -> None:
    teacher = torch.tensor([[0.1, 0.4, 0.3, 0.2]])
    student = torch.tensor([[0.2, 0.1, 0.3, 0.4]])  # apart by 0.1, 0.3, 0, 0.2

    shares = [float(head_share(student, teacher, head=head)) for head in (0.3, 0.5, 0.8, 0.95)]

    assert shares == pytest.approx([3 / 6, 3 / 6, 5 / 6, 1])


def test_the_weight_of_the_head_carries_no_gradient_and_order_does_not_matter() -> None:
    student, teacher = logits(seed=1), logits(seed=2)
    teacher[0, 1] = teacher[0, 3] = teacher[0].max()  # a tie
    order = torch.tensor([3, 0, 4, 1, 2])

    value, _, gradient = evaluate(L.AdaptiveKL(), student, teacher, Target(N))

    again, _, moved = evaluate(L.AdaptiveKL(), student[:, order], teacher[:, order], Target(N))
    torch.testing.assert_close(again, value)
    torch.testing.assert_close(moved, gradient[:, order])
