"""Batches: the plain permutation, replay, resuming, augmentation seen by identity."""

import pytest
import torch

from potstill.data import Augment, Feed, Mixup, Normalise, Samples
from potstill.data import feed as feed_module
from potstill.errors import DataError, RecipeError

CONSTANTS = Normalise(torch.tensor([[[0.4]]]), torch.tensor([[[0.2]]]), 255.0)


def samples(rows: int = 23, *, first_id: int = 100) -> Samples:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (rows, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Samples(pixels, torch.arange(first_id, first_id + rows), torch.arange(rows) % 5)


def make_feed(given: Samples | None = None, **changes) -> Feed:
    settings = {"batch_size": 5, "seed": 7, "normalise": CONSTANTS} | changes
    return Feed(samples=samples() if given is None else given, **settings)


def test_batches_are_those_of_the_plain_loop():
    given = samples()
    feed = make_feed(given)

    for epoch in (0, 1, 2):
        generator = torch.Generator().manual_seed(1_000_003 * 7 + epoch)
        permutation = torch.randperm(23, generator=generator)
        batches = list(feed.epoch(epoch))
        assert len(batches) == feed.num_batches == len(feed) == 5
        for number, batch in enumerate(batches):
            rows = permutation[number * 5 : number * 5 + 5]
            plain = (given.inputs[rows].float() / 255 - 0.4) / 0.2
            assert torch.equal(batch.inputs, plain)
            assert torch.equal(batch.labels, given.labels[rows])
            assert torch.equal(batch.ids, given.ids[rows])
            assert torch.equal(batch.view, torch.zeros_like(rows))


def test_a_batch_does_not_depend_on_what_was_read_before():
    fresh, used = make_feed(), make_feed()
    for epoch in (3, 0, 1):
        list(used.epoch(epoch))

    batch, again = fresh.batch(2, 3), used.batch(2, 3)

    assert torch.equal(batch.inputs, again.inputs)
    assert torch.equal(batch.ids, again.ids)


def test_an_epoch_goes_on_in_the_middle():
    feed = make_feed()

    whole = [batch.ids.tolist() for batch in feed.epoch(1)]
    rest = [batch.ids.tolist() for batch in make_feed().epoch(1, start=3)]

    assert rest == whole[3:]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        torch.cat([b.ids for b in feed.epoch(epoch)]).tolist()
        for feed, epoch in ((make_feed(), 0), (make_feed(), 1), (make_feed(seed=8), 0))
    ]

    assert all(sorted(order) == list(range(100, 123)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_without_shuffling_rows_come_in_order():
    feed = make_feed(shuffle=False)

    ids = [torch.cat([b.ids for b in feed.epoch(epoch)]).tolist() for epoch in (0, 4)]

    assert ids == [list(range(100, 123))] * 2


def test_changing_a_batch_does_not_change_the_next_epoch():
    feed = make_feed(shuffle=False)
    before = feed.batch(0, 0).inputs.clone()

    feed.batch(0, 0).inputs.zero_()

    assert torch.equal(feed.batch(0, 0).inputs, before)


def test_a_single_row_left_over_joins_the_batch_before_it():
    feed = make_feed(samples(21))

    assert feed.num_batches == 4
    assert [len(b) for b in feed.epoch(0)] == [5, 5, 5, 6]
    assert sorted(torch.cat([b.ids for b in feed.epoch(1)]).tolist()) == sorted(
        samples(21).ids.tolist()
    )
    assert [len(b) for b in make_feed(samples(21), drop_last=True).epoch(0)] == [5, 5, 5, 5]
    assert [len(b) for b in make_feed(samples(1)).epoch(0)] == [1]


def test_the_last_batch_may_be_short_or_left_out():
    assert [len(b) for b in make_feed().epoch(0)] == [5, 5, 5, 5, 3]
    assert [len(b) for b in make_feed(drop_last=True).epoch(0)] == [5, 5, 5, 5]
    assert make_feed(samples(20)).num_batches == make_feed(samples(20), drop_last=True).num_batches


def test_without_room_for_the_cache_the_batches_are_the_same(monkeypatch):
    cached = make_feed().batch(0, 1)
    monkeypatch.setattr(feed_module, "CACHE_LIMIT", 0)

    assert torch.equal(make_feed().batch(0, 1).inputs, cached.inputs)


def test_augmented_epochs_show_view_after_view_by_identity():
    augment = Augment.parse(["jitter"], seed=1)
    given = samples()
    feed = make_feed(given, augment=augment)

    for epoch in (0, 3):
        batch = feed.batch(epoch, 2)
        raw = given.inputs[batch.ids - 100].float() / 255
        expected = augment(raw, ids=batch.ids, view=torch.full((5,), epoch + 1))
        assert torch.equal(batch.inputs, (expected - 0.4) / 0.2)
        assert batch.view.tolist() == [epoch + 1] * 5


def test_a_sample_has_the_same_view_in_feeds_of_any_seed_and_batch_size():
    augment = Augment.parse(["jitter", {"op": "rotate", "degrees": 9}, "noise"])
    one, other = make_feed(augment=augment), make_feed(augment=augment, seed=9, batch_size=8)

    seen = [
        {int(i): x for b in feed.epoch(2) for i, x in zip(b.ids, b.inputs, strict=True)}
        for feed in (one, other)
    ]

    assert all(torch.equal(seen[0][i], seen[1][i]) for i in range(100, 123))


def test_tables_are_augmented_after_standardisation():
    table = Samples(torch.full((400, 2), 1000.0), torch.arange(400), torch.arange(400) % 2)
    normalise = Normalise(torch.tensor([1000.0, 0.0]), torch.tensor([500.0, 500.0]))
    feed = make_feed(table, normalise=normalise, augment=Augment.parse(["noise"]), batch_size=400)

    inputs = feed.batch(0, 0).inputs

    assert abs(inputs[:, 0].mean()) < 0.02
    assert abs(inputs.std(dim=0) - 0.1).max() < 0.02


def test_unlabelled_rows_are_marked():
    joined = samples(10).concat(samples(6, first_id=500).unlabelled())

    batches = list(make_feed(joined, batch_size=16).epoch(0))

    (batch,) = batches
    assert torch.equal(batch.labelled, batch.ids < 500)
    assert not batch.labels[~batch.labelled].any()


def test_mixing_is_replayed_and_softens_labels():
    feed, again = (make_feed(mix=Mixup(alpha=1.0), num_classes=5) for _ in range(2))

    batch = feed.batch(1, 2)

    assert batch.labels.shape == (5, 5)
    torch.testing.assert_close(batch.labels.sum(1), torch.ones(5))
    assert torch.equal(batch.inputs, again.batch(1, 2).inputs)
    assert not torch.equal(batch.inputs, make_feed().batch(1, 2).inputs)


def test_the_global_generator_is_not_used():
    before = torch.get_rng_state()

    list(make_feed(augment=Augment.parse(["jitter"]), mix=Mixup(), num_classes=5).epoch(0))

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": 0}, RecipeError, "`batch_size` must be 1 or more, got 0"),
        ({"seed": -1}, RecipeError, "`seed` must lie between 0 and 2147483647, got -1"),
        ({"seed": 2**31}, RecipeError, "`seed` must lie between"),
        ({"batch_size": 24, "drop_last": True}, RecipeError, "drops all 23 rows"),
        ({"mix": Mixup()}, RecipeError, "needs `num_classes`"),
        ({"augment": Augment.parse(["roll"])}, RecipeError, "`roll` is for signals"),
        ({"given": samples(0)}, DataError, "no samples to make batches of"),
    ],
)
def test_wrong_settings_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        make_feed(**changes)


def test_a_batch_beyond_the_epoch_is_refused():
    with pytest.raises(IndexError, match="batch 5 of an epoch that has 5"):
        make_feed().batch(0, 5)
