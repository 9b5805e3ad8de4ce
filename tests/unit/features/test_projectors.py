"""Projectors bring any feature to the shape of any other, and say how."""

import pytest
import torch
import torch.nn.functional as F

from potstill.errors import HandshakeError
from potstill.features import Projector

SHAPES = {
    "map": (2, 6, 8, 8),
    "map_last": (2, 4, 4, 5),
    "signal": (2, 7, 12),
    "tokens": (2, 17, 9),
    "vector": (2, 10),
}


def features(shape: tuple[int, ...], *, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("student_layout", SHAPES)
@pytest.mark.parametrize("teacher_layout", SHAPES)
def test_any_layout_meets_any_other(student_layout: str, teacher_layout: str) -> None:
    student, teacher = features(SHAPES[student_layout]), features(SHAPES[teacher_layout], seed=1)
    projector = Projector(
        student, teacher, student_layout=student_layout, teacher_layout=teacher_layout
    )

    ours, theirs = projector(student.requires_grad_(), teacher)

    assert ours.shape == theirs.shape
    width = {"map_last": 5, "tokens": 9}.get(teacher_layout, SHAPES[teacher_layout][1])
    assert ours.shape[:2] == (2, width)
    if student_layout != teacher_layout:
        ours.square().sum().backward()
        assert projector.weight.grad.any()
        assert student.grad.any()
    assert "\n" not in projector.describe()


def test_equal_shapes_are_left_alone() -> None:
    student, teacher = features((2, 3, 4, 4)), features((2, 3, 4, 4), seed=1)

    projector = Projector(student, teacher)

    assert projector.is_identity
    assert list(projector.parameters()) == []
    ours, theirs = projector(student, teacher)
    assert torch.equal(ours, student)
    assert torch.equal(theirs, teacher)


@pytest.mark.parametrize(
    ("student_grid", "teacher_grid"), [((8, 8), (4, 4)), ((4, 4), (8, 8)), ((6, 3), (3, 6))]
)
def test_grids_are_averaged_down_and_interpolated_up(student_grid, teacher_grid) -> None:
    student, teacher = features((2, 3, *student_grid)), features((2, 5, *teacher_grid))
    projector = Projector(student, teacher)

    ours, _ = projector(student, teacher)

    down = [min(a, b) for a, b in zip(student_grid, teacher_grid, strict=True)]
    expected = F.conv2d(
        F.adaptive_avg_pool2d(student, down), projector.weight[:, :, None, None], projector.bias
    )
    expected = F.interpolate(expected, teacher_grid, mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(("tokens", "extra"), [(16, 0), (17, 1), (18, 2), (21, 5)])
def test_class_tokens_are_dropped_where_the_other_is_a_map(tokens: int, extra: int) -> None:
    student, teacher = features((2, 3, 8, 8)), features((2, tokens, 5), seed=1)

    ours, theirs = Projector(student, teacher)(student, teacher)

    assert ours.shape == theirs.shape == (2, 5, 4, 4)
    assert torch.equal(theirs, teacher[:, extra:].movedim(2, 1).reshape(2, 5, 4, 4))


def test_tokens_take_the_proportions_of_an_oblong_map() -> None:
    student, teacher = features((2, 9, 3)), features((2, 5, 2, 4), seed=1)

    ours, _ = Projector(student, teacher)(student, teacher)

    assert ours.shape == (2, 5, 2, 4)


def test_tokens_that_fill_no_grid_are_refused() -> None:
    with pytest.raises(HandshakeError, match="7 tokens fill no grid"):
        Projector(features((2, 7, 3)), features((2, 5, 4, 4)))


def test_equal_numbers_of_tokens_keep_all_tokens() -> None:
    student, teacher = features((2, 17, 3)), features((2, 17, 5))

    ours, theirs = Projector(student, teacher)(student, teacher)

    assert ours.shape == theirs.shape == (2, 5, 17)


def test_unequal_square_grids_of_tokens_meet_as_grids() -> None:
    student, teacher = features((2, 17, 3)), features((2, 64, 5))

    ours, theirs = Projector(student, teacher)(student, teacher)

    assert ours.shape == theirs.shape == (2, 5, 8, 8)


def test_a_map_becomes_a_vector_by_its_mean() -> None:
    student, teacher = features((2, 3, 4, 4)), features((2, 5))
    projector = Projector(student, teacher)

    ours, _ = projector(student, teacher)

    expected = student.mean((2, 3)) @ projector.weight.T + projector.bias
    torch.testing.assert_close(ours, expected)


def test_the_grid_may_vary_after_the_projector_was_made() -> None:
    projector = Projector(features((2, 3, 8, 8)), features((2, 5, 4, 4)))

    ours, theirs = projector(features((1, 3, 10, 6)), features((1, 5, 5, 3)))

    assert ours.shape == theirs.shape == (1, 5, 5, 3)


def test_initial_weights_follow_the_seed_alone() -> None:
    state = torch.get_rng_state()
    student, teacher = features((2, 3)), features((2, 5))

    one, two, other = (Projector(student, teacher, seed=seed) for seed in (0, 0, 1))

    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)
    assert one.weight.abs().max() <= 3**-0.5
    assert torch.equal(torch.get_rng_state(), state)


def test_a_line_says_what_is_done() -> None:
    projector = Projector(features((2, 64, 8, 8)), features((2, 197, 384)))

    assert projector.describe() == (
        "map [64, 8, 8] → tokens [197, 384]: linear 64 → 384, positions 8×8 → 14×14"
    )


@pytest.mark.parametrize(
    ("student", "layout", "says"),
    [
        ((2, 3, 4, 5, 6), None, "cannot be matched"),
        ((2,), None, "cannot be matched"),
        ((2, 3, 4), "map", "has 4 axes"),
        ((3, 4), None, "3 and 2 samples"),
    ],
)
def test_shapes_without_meaning_are_refused(student, layout, says: str) -> None:
    with pytest.raises(HandshakeError, match=says):
        Projector(features(student), features((2, 5)), student_layout=layout)
