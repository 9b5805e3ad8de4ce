"""Counter-based random numbers: the published sequence, purity, and the right distributions."""

import torch

from potstill.data.draws import Draws, mix64


def draws_of(*ids: int, view: int = 1, seed: int = 0) -> Draws:
    numbers = torch.tensor(ids)
    return Draws.of(seed, numbers, torch.full_like(numbers, view))


def test_the_stream_is_splitmix64():
    # The reference sequence of splitmix64 for seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]

    bits = Draws(torch.tensor([1234567])).bits(3)[0].tolist()

    assert [word % 2**64 for word in bits] == expected


def test_the_finaliser_has_no_collisions():
    words = mix64(torch.arange(-50_000, 50_000))

    assert len(words.unique()) == 100_000


def test_a_sample_draws_the_same_in_any_company():
    together = draws_of(7, 3, 9)
    alone = draws_of(3)

    assert torch.equal(together.uniform(4, 5)[1], alone.uniform(4, 5)[0])
    assert torch.equal(together.normal(6)[1], alone.normal(6)[0])
    assert torch.equal(together.whole(3)[1], alone.whole(3)[0])
    assert torch.equal(together.field(4, 5)[1], alone.field(4, 5)[0])


def test_seed_identity_view_and_split_each_change_the_draw():
    keys = [
        draws_of(5).keys,
        draws_of(6).keys,
        draws_of(5, view=2).keys,
        draws_of(5, seed=1).keys,
        draws_of(5).split(0).keys,
        draws_of(5).split(1).keys,
        draws_of(1, view=5).keys,
    ]

    assert len(torch.cat(keys).unique()) == len(keys)


def test_negative_and_large_seeds_are_seeds_too():
    assert not torch.equal(draws_of(1, seed=-1).keys, draws_of(1, seed=2**63).keys)


def test_uniform_numbers_fill_zero_to_one_evenly():
    values = draws_of(*range(2000)).uniform(50)

    counts = torch.histc(values, bins=20, min=0, max=1)
    assert values.min() >= 0
    assert values.max() < 1
    # 5,000 a bin with a standard deviation of 69.
    assert (counts - 5000).abs().max() < 350


def test_whole_numbers_take_every_value_alike():
    values = draws_of(*range(7000)).whole(3)

    numbers, counts = values.unique(return_counts=True)
    assert numbers.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert (counts - 1000).abs().max() < 180
    assert draws_of(1, 2).whole(0).tolist() == [0, 0]


def test_normal_numbers_have_mean_zero_and_std_one():
    values = draws_of(*range(1000)).normal(100)

    assert abs(values.mean().item()) < 0.01
    assert abs(values.std().item() - 1) < 0.01
    # 68.3 % of a normal distribution lie within one standard deviation.
    assert abs((values.abs() < 1).float().mean().item() - 0.683) < 0.02


def test_both_halves_of_a_field_are_even_and_independent():
    field = draws_of(*range(500)).field(10, 10)

    assert field.shape == (500, 2, 10, 10)
    assert abs(field.mean().item()) < 0.01
    assert abs(field.std().item() - 3**-0.5) < 0.01
    halves = torch.corrcoef(field.transpose(0, 1).flatten(1))
    assert abs(halves[0, 1].item()) < 0.02
