"""Mixing: label mathematics, who is mixed with whom, replay."""

import numpy as np
import pytest
import torch

from potstill.data import CutMix, Mix, Mixup, Moment
from potstill.errors import RecipeError
from potstill.signals import Batch

NOW = Moment(seed=0, epoch=2, step=5)
BOTH = pytest.mark.parametrize("mix", [Mixup(alpha=1.0), CutMix()], ids=["mixup", "cutmix"])


def batch(rows: int = 8, *, labelled: torch.Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        inputs=torch.rand(rows, 1, 10, 10, generator=generator),
        labels=torch.arange(rows) % 4,
        labelled=labelled,
        ids=torch.arange(rows),
        view=torch.zeros(rows, dtype=torch.long),
    )


def test_mixup_mixes_inputs_and_labels_in_the_same_shares():
    plain = batch()

    mixed = Mixup(alpha=1.0)(plain, num_classes=4, moment=NOW)

    one_hot = torch.eye(4)[plain.labels]
    share = share_now()
    partner = partners_of(mixed, plain, share)
    for row in range(8):
        expected = share * plain.inputs[row] + (1 - share) * plain.inputs[partner[row]]
        torch.testing.assert_close(mixed.inputs[row], expected)
        expected_label = share * one_hot[row] + (1 - share) * one_hot[partner[row]]
        torch.testing.assert_close(mixed.labels[row], expected_label)
    assert all(partner[row] != row for row in range(8))


def share_now() -> float:
    """The share drawn at NOW, by the same recipe in NumPy."""
    rng = np.random.default_rng([0, 2, 5])
    rng.random()
    return float(rng.beta(1.0, 1.0))


def partners_of(mixed: Batch, plain: Batch, share: float) -> list[int]:
    """Found by looking: the row that explains what was mixed in."""
    rest = (mixed.inputs - share * plain.inputs) / (1 - share)
    return [int((rest[r] - plain.inputs).abs().flatten(1).sum(1).argmin()) for r in range(8)]


def test_cutmix_labels_are_the_share_of_pixels():
    plain = batch()
    plain = Batch(
        inputs=torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 10, 10), labels=plain.labels
    )

    for step in range(20):
        mixed = CutMix()(plain, num_classes=4, moment=Moment(0, 0, step))
        own = (mixed.inputs == plain.inputs).float().mean(dim=(1, 2, 3))
        one_hot = torch.eye(4)[plain.labels]
        partner = mixed.inputs.flatten(1).sum(1) - own * 100 * torch.arange(8)
        partner = (partner / (100 * (1 - own)).clamp(min=1)).round().long()
        expected = own[:, None] * one_hot + (1 - own[:, None]) * one_hot[partner]
        torch.testing.assert_close(mixed.labels, expected)


def test_cutmix_areas_follow_the_uniform_share():
    plain = Batch(inputs=torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 32, 32).contiguous())

    kept = [
        (CutMix()(plain, num_classes=2, moment=Moment(0, 0, s)).inputs[0] == 0).float().mean()
        for s in range(300)
    ]

    # Boxes that reach over the edge take less: the mean share kept is above one half.
    assert 0.55 < torch.stack(kept).mean() < 0.75


@BOTH
def test_the_same_moment_gives_the_same_batch(mix: Mix):
    first = mix(batch(), num_classes=4, moment=NOW)
    again = mix(batch(), num_classes=4, moment=NOW)

    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.labels, again.labels)


@BOTH
@pytest.mark.parametrize("other", [Moment(1, 2, 5), Moment(0, 3, 5), Moment(0, 2, 6)])
def test_another_seed_epoch_or_step_mixes_otherwise(mix: Mix, other: Moment):
    first = mix(batch(), num_classes=4, moment=NOW)

    assert not torch.equal(mix(batch(), num_classes=4, moment=other).inputs, first.inputs)


@BOTH
def test_mixed_batches_have_no_identity(mix: Mix):
    mixed = mix(batch(), num_classes=4, moment=NOW)

    assert mixed.ids is None
    assert mixed.view is None


@BOTH
def test_nothing_is_mixed_with_probability_zero(mix: Mix):
    still = type(mix)(alpha=1.0, probability=0.0)

    mixed = still(batch(), num_classes=4, moment=NOW)

    assert torch.equal(mixed.inputs, batch().inputs)
    assert torch.equal(mixed.labels, torch.eye(4)[batch().labels])


def test_about_a_share_of_batches_is_mixed():
    mix = Mixup(alpha=1.0, probability=0.3)
    plain = batch()

    mixed = sum(
        not torch.equal(mix(plain, num_classes=4, moment=Moment(0, 0, s)).inputs, plain.inputs)
        for s in range(400)
    )

    assert 80 < mixed < 160


@pytest.mark.parametrize("step", range(8))
def test_labelled_rows_are_mixed_with_labelled_rows_only(step: int):
    labelled = torch.tensor([True, False, False, True, True, False, True, False])
    plain = batch(labelled=labelled)
    # Inputs say whether a row is labelled, so a mixture across the border would show.
    plain = Batch(
        inputs=labelled.float().view(-1, 1).expand(8, 3), labels=plain.labels, labelled=labelled
    )

    mixed = Mixup(alpha=1.0)(plain, num_classes=4, moment=Moment(0, 0, step))

    torch.testing.assert_close(mixed.inputs, plain.inputs)
    assert torch.equal(mixed.labelled, labelled)


@pytest.mark.parametrize("labelled", [torch.zeros(4).bool(), torch.ones(4).bool()])
def test_all_rows_labelled_or_none_is_mixed_too(labelled: torch.Tensor):
    plain = batch(4, labelled=labelled)

    mixed = Mixup(alpha=1.0)(plain, num_classes=4, moment=NOW)

    assert not torch.equal(mixed.inputs, plain.inputs)


def test_every_row_is_once_a_partner():
    plain = Batch(inputs=torch.eye(7), labels=torch.eye(7))

    mixed = Mixup(alpha=1.0)(plain, num_classes=7, moment=NOW)

    torch.testing.assert_close(mixed.labels.sum(0), torch.ones(7))
    torch.testing.assert_close(mixed.inputs, mixed.labels)


def test_values_and_unlabelled_batches_are_mixed():
    values = Batch(inputs=torch.eye(5), labels=torch.arange(5.0)[:, None])
    nothing = Batch(inputs=torch.eye(5))

    mixed = Mixup(alpha=1.0)(values, num_classes=1, moment=NOW)

    torch.testing.assert_close(mixed.labels[:, 0], mixed.inputs @ torch.arange(5.0))
    assert Mixup(alpha=1.0)(nothing, num_classes=1, moment=NOW).labels is None


def test_a_single_row_is_its_own_partner():
    one = batch(1)

    assert torch.allclose(Mixup()(one, num_classes=4, moment=NOW).inputs, one.inputs)


@BOTH
def test_the_global_generators_are_not_used(mix: Mix):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()

    mix(batch(), num_classes=4, moment=NOW)

    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_wrong_settings_are_refused():
    with pytest.raises(RecipeError, match=r"`mixup.alpha` must be more than 0, got 0"):
        Mixup(alpha=0)
    with pytest.raises(RecipeError, match=r"`cutmix.probability` must lie between 0 and 1, got 2"):
        CutMix(probability=2)
    with pytest.raises(RecipeError, match="`cutmix` is for images"):
        CutMix()(Batch(inputs=torch.eye(3)), num_classes=2, moment=NOW)
