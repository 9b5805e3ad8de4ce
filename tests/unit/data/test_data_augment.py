"""Augmentation: replay in any company, identity at strength zero, oracles, refusals."""

import math

import pytest
import torch

from potstill.data import Augment
from potstill.data.draws import Draws
from potstill.data.ops import (
    CATALOGUE,
    Affine,
    Brightness,
    Contrast,
    Crop,
    Cutout,
    Elastic,
    Flip,
    Jitter,
    Noise,
    Op,
    Roll,
    Rotate,
    Scale,
    Shift,
)
from potstill.data.wave_ops import WAVE_OPS
from potstill.errors import RecipeError

IMAGE_OPS = [
    Affine(degrees=20, translate=2, scale=0.2, shear=10),
    Brightness(),
    Contrast(),
    Crop(padding=2, fill="reflect"),
    Cutout(size=4),
    Elastic(alpha=8, sigma=2),
    Flip(),
    Jitter(),
    Noise(),
    Rotate(degrees=30),
]
SIGNAL_OPS = [Noise(), Roll(steps=3), Scale(amount=0.3), Shift(steps=3)]


def images(rows: int = 6, *, channels: int = 3, height: int = 9, width: int = 11) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, channels, height, width, generator=generator)


def signals(rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, 2, 17, generator=torch.Generator().manual_seed(0))


def view(rows: int, number: int = 1) -> torch.Tensor:
    return torch.full((rows,), number)


def name_of(op: Op) -> str:
    return type(op).__name__


@pytest.mark.parametrize("op", [*IMAGE_OPS, *SIGNAL_OPS], ids=name_of)
def test_a_view_is_the_same_in_any_batch_and_order(op: Op):
    inputs = signals() if op in SIGNAL_OPS else images()
    augment = Augment((op,), seed=3)
    ids = torch.tensor([40, 2, 7, 11, 5, 90])
    whole = augment(inputs, ids=ids, view=view(6))
    order = torch.tensor([4, 0, 3])

    part = augment(inputs[order], ids=ids[order], view=view(3))
    alone = augment(inputs[5:], ids=ids[5:], view=view(1))

    # Blurring is a matrix product, whose rounding may depend on the batch; the rest is exact.
    exact = not isinstance(op, Elastic)
    assert torch.equal(part, whole[order]) or not exact
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, whole[5:], rtol=0, atol=0 if exact else 1e-5)


@pytest.mark.parametrize("op", [*IMAGE_OPS, *SIGNAL_OPS], ids=name_of)
def test_views_samples_and_seeds_differ(op: Op):
    one = signals(1) if op in SIGNAL_OPS else images(1)
    inputs = one.expand(32, *one.shape[1:])
    ids = torch.arange(32)

    first = Augment((op,))(inputs, ids=ids, view=view(32, 1))

    assert len({tuple(row.flatten().tolist()) for row in first}) > 1
    assert not torch.equal(first, Augment((op,))(inputs, ids=ids, view=view(32, 2)))
    assert not torch.equal(first, Augment((op,), seed=1)(inputs, ids=ids, view=view(32, 1)))


@pytest.mark.parametrize(
    "op",
    [
        Affine(),
        Brightness(amount=0),
        Contrast(amount=0),
        Crop(padding=0),
        Cutout(size=0),
        Elastic(alpha=0),
        Flip(probability=0),
        Jitter(pixels=0),
        Noise(std=0),
        Rotate(degrees=0),
    ],
    ids=name_of,
)
def test_strength_zero_changes_nothing(op: Op):
    inputs = images()

    result = Augment((op,))(inputs, ids=torch.arange(6), view=view(6))

    assert torch.equal(result, inputs)


@pytest.mark.parametrize("op", [Roll(steps=0), Scale(amount=0), Shift(steps=0)], ids=name_of)
def test_strength_zero_changes_no_signal(op: Op):
    assert torch.equal(op(signals(), Draws(torch.arange(6))), signals())


def test_view_zero_is_the_sample_itself():
    inputs = images()
    views = torch.tensor([0, 1, 0, 2, 0, 3])

    result = Augment((Jitter(pixels=3), Noise()))(inputs, ids=torch.arange(6), view=views)

    assert torch.equal(result[::2], inputs[::2])
    assert all(not torch.equal(result[row], inputs[row]) for row in (1, 3, 5))


def test_inputs_are_left_alone():
    inputs = images()
    before = inputs.clone()

    for op in IMAGE_OPS:
        Augment((op,))(inputs, ids=torch.arange(6), view=view(6))

    assert torch.equal(inputs, before)


def test_jitter_equals_a_naive_loop():
    inputs, draws = images(40), Draws.of(5, torch.arange(40), view(40))
    moves = draws.whole(2, 2).tolist()
    expected = torch.zeros_like(inputs)
    for row, (down, right) in enumerate(moves):
        for y in range(9):
            for x in range(11):
                if 0 <= y - down < 9 and 0 <= x - right < 11:
                    expected[row, :, y, x] = inputs[row, :, y - down, x - right]

    assert torch.equal(Jitter(pixels=2)(inputs, draws), expected)
    assert len({tuple(move) for move in moves}) > 15


def test_reflecting_crop_shows_no_blank_border():
    ones = torch.ones(20, 1, 6, 6)
    draws = Draws(torch.arange(20))

    assert torch.equal(Crop(padding=3, fill="reflect")(ones, draws), ones)
    assert (Crop(padding=3)(ones, draws) == 0).any()


def test_a_quarter_turn_is_rot90():
    inputs = images(1, height=8, width=8)

    class QuarterTurn:
        """Draws whose first number is a quarter turn of the largest angle, 180 degrees."""

        def symmetric(self, *shape: int) -> torch.Tensor:
            return torch.tensor([[0.5, 0, 0, 0, 0]])

    turned = Affine(degrees=180)(inputs, QuarterTurn())

    both = [torch.rot90(inputs, k, dims=(2, 3)) for k in (1, 3)]
    assert any(torch.allclose(turned, expected, atol=1e-4) for expected in both)


def test_affine_moves_by_the_pixels_it_draws():
    inputs = images(1, height=8, width=8)

    class Move:
        """Draws of two pixels down and one to the right, of at most four."""

        def symmetric(self, *shape: int) -> torch.Tensor:
            return torch.tensor([[0, 0, 0, 0.5, 0.25]])

    moved = Affine(translate=4)(inputs, Move())

    torch.testing.assert_close(moved[:, :, 2:, 1:], inputs[:, :, :-2, :-1], atol=1e-5, rtol=0)
    assert not moved[:, :, :2].any()


def test_affine_barely_moves_at_a_tiny_strength():
    inputs = images()

    result = Affine(degrees=1e-4)(inputs, Draws(torch.arange(6)))

    torch.testing.assert_close(result, inputs, atol=1e-4, rtol=0)


def test_elastic_moves_as_far_as_documented():
    # A ramp along x read at x + move gives the move itself, away from the edges.
    ramp = torch.arange(64.0).expand(40, 1, 64, 64)

    moves = (Elastic(alpha=20, sigma=3)(ramp, Draws(torch.arange(40))) - ramp)[..., 16:48, 16:48]

    assert abs(moves.square().mean().sqrt().item() - 20 / (6.1 * 3)) < 0.1
    neighbours = moves.diff(dim=-1).abs().mean() / moves.abs().mean()
    assert neighbours < 0.35  # a smooth field; white noise would give about 1.4


def test_flip_mirrors_about_half_of_the_images():
    inputs = images(1).expand(400, -1, -1, -1)

    result = Flip()(inputs, Draws(torch.arange(400)))

    mirrored = [torch.equal(row, inputs[0].flip(-1)) for row in result]
    plain = [torch.equal(row, inputs[0]) for row in result]
    assert sum(mirrored) + sum(plain) == 400
    assert 150 < sum(mirrored) < 250


def test_cutout_blanks_at_most_its_square():
    result = Cutout(size=4)(torch.ones(200, 2, 12, 12), Draws(torch.arange(200)))

    blank = (result == 0).sum(dim=(2, 3))
    assert torch.equal(blank[:, 0], blank[:, 1])
    assert blank.max() == 16
    assert blank.min() >= 4  # the centre always lies inside


def test_brightness_and_contrast_stay_in_range():
    for op in (Brightness(amount=1), Contrast(amount=1)):
        result = op(images(50), Draws(torch.arange(50)))
        assert result.min() >= 0
        assert result.max() <= 1


def test_roll_and_shift_move_in_time():
    inputs = signals(30)
    draws = Draws(torch.arange(30))
    moves = draws.whole(3).tolist()

    rolled, shifted = Roll(steps=3)(inputs, draws), Shift(steps=3)(inputs, draws)

    for row, move in enumerate(moves):
        expected = inputs[row].roll(move, dims=-1)
        assert torch.equal(rolled[row], expected)
        came_in = slice(0, move) if move >= 0 else slice(move, None)
        expected[:, came_in] = 0
        assert torch.equal(shifted[row], expected)
    assert {-3, 0, 3} <= set(moves)


def test_scale_multiplies_each_signal_by_one_number():
    ratios = Scale(amount=0.3)(signals(), Draws(torch.arange(6))) / signals()

    torch.testing.assert_close(ratios, ratios[:, :1, :1].expand_as(ratios))
    assert ratios.min() >= 0.7
    assert ratios.max() <= 1.3
    assert len(ratios[:, 0, 0].unique()) == 6


def test_two_ops_of_one_kind_draw_apart():
    inputs = images(200)
    twice = Augment((Flip(), Flip()))(inputs, ids=torch.arange(200), view=view(200))

    changed = sum(not torch.equal(a, b) for a, b in zip(twice, inputs, strict=True))

    assert 60 < changed < 140  # one flip out of two, not both or none


def test_the_global_generator_is_not_used():
    before = torch.get_rng_state()

    for op in IMAGE_OPS:
        Augment((op,))(images(), ids=torch.arange(6), view=view(6))

    assert torch.equal(torch.get_rng_state(), before)


def test_recipes_name_ops_and_their_strengths():
    augment = Augment.parse(["flip", {"op": "jitter", "pixels": 3}, {"op": "rotate", "degrees": 5}])

    assert augment == Augment((Flip(), Jitter(pixels=3), Rotate(degrees=5.0)))


def test_the_catalogue_lists_every_op():
    listed = {**CATALOGUE, **WAVE_OPS}
    assert set(listed.values()) == set(Op.__subclasses__())
    for name, kind in listed.items():
        assert Augment.parse([name]).ops == (kind(),)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jiter", r"no augmentation `jiter`; did you mean `jitter`"),
        ({"op": "jitter", "pixel": 2}, r"no option `pixel`; did you mean `pixels`"),
        ({"op": "jitter", "pixels": 1.5}, "must be a whole number, got 1.5"),
        ({"op": "jitter", "pixels": -1}, "0 or more pixels, got -1"),
        ({"op": "rotate", "degrees": "ten"}, "must be a number, got 'ten'"),
        ({"op": "rotate", "degrees": 500}, "between 0 and 180, got 500"),
        ({"op": "noise", "std": math.nan}, "must be a number, got nan"),
        ({"op": "noise", "std": None}, "must be a number, got None"),
        ({"op": "crop", "fill": "reflct"}, "did you mean `reflect`"),
        ({"pixels": 2}, "a name or a mapping"),
        (3, "a name or a mapping"),
    ],
)
def test_wrong_specs_are_refused(spec, message):
    with pytest.raises(RecipeError, match=message):
        Augment.parse([spec])


def test_ops_that_do_not_fit_the_data_are_refused():
    with pytest.raises(
        RecipeError, match=r"`flip` is for images, and the data are tables.*`noise`"
    ):
        Augment.parse(["flip"]).check(torch.zeros(3, 5))
