"""Conditions change what is learnt from, whose part it is, and nothing else."""

import numpy as np
import pytest
import torch

from potstill.data import (
    Conditions,
    LabelNoise,
    LongTail,
    NoiseKind,
    Of,
    Samples,
    Transfer,
    class_frequencies,
    from_arrays,
)
from potstill.errors import DataError, RecipeError
from potstill.pipeline.storing import taught_samples

from .tiny import images


@pytest.fixture
def data():
    return from_arrays(*images(400, seed=0), test=images(40, seed=1))


def counts(samples: Samples) -> list[int]:
    return torch.bincount(samples.labels, minlength=4).tolist()


def test_students_see_no_sample_of_an_omitted_class_and_the_teacher_all(data) -> None:
    met = Conditions(omit=[3]).apply(data)

    assert counts(met.lessons) == [90, 90, 90, 0]
    assert counts(taught_samples(met)) == [90, 90, 90, 0]
    assert met.train is data.train
    assert met.validation is data.validation
    assert met.test is data.test
    assert "class `3`: 90 of 360" in met.notes[-1]
    assert met.fingerprint() != data.fingerprint()


def test_classes_are_omitted_by_name_as_well(data) -> None:
    assert counts(Conditions(omit=["1", 2]).apply(data).lessons) == [90, 0, 0, 90]
    with pytest.raises(DataError, match="the class `cat`, and the classes are `0`, `1`"):
        Conditions(omit=["cat"]).apply(data)
    with pytest.raises(DataError, match="leaves students nothing"):
        Conditions(omit=[0, 1, 2, 3]).apply(data)


def test_a_long_tail_is_exponential(data) -> None:
    met = Conditions(long_tail=LongTail(ratio=10)).apply(data)

    assert counts(met.train) == [round(90 * 10 ** (-c / 3)) for c in range(4)] == [90, 42, 19, 9]
    assert met.studied is None
    for_students = Conditions(long_tail=LongTail(ratio=10, of=Of.STUDENTS)).apply(data)
    assert counts(for_students.lessons) == [90, 42, 19, 9]
    assert for_students.train is data.train
    again = Conditions(long_tail=LongTail(ratio=10)).apply(data)
    assert torch.equal(again.train.ids, met.train.ids)
    other = Conditions(long_tail=LongTail(ratio=10), seed=1).apply(data)
    assert not torch.equal(other.train.ids, met.train.ids)


@pytest.mark.parametrize("kind", NoiseKind)
def test_noise_changes_its_share_of_each_class_to_other_classes(data, kind: NoiseKind) -> None:
    met = Conditions(label_noise=LabelNoise(share=0.4, kind=kind)).apply(data)
    before, after = data.train.labels, met.train.labels

    for number in range(4):
        changed = after[before == number] != number
        assert int(changed.sum()) == 36
        wrong = set(after[before == number][changed].tolist())
        expected = {(number + 1) % 4} if kind is NoiseKind.ASYMMETRIC else {0, 1, 2, 3} - {number}
        assert wrong == expected
    assert torch.equal(met.validation.labels, data.validation.labels)


def test_noise_of_students_leaves_the_teacher_its_labels(data) -> None:
    met = Conditions(label_noise=LabelNoise(share=0.5, of=Of.STUDENTS)).apply(data)

    assert met.train is data.train
    assert int((met.lessons.labels != data.train.labels).sum()) == 180


def test_transfer_samples_count_by_their_weight(data) -> None:
    extra = Samples(torch.zeros(90, 1, 8, 8, dtype=torch.uint8), torch.arange(90))
    met = Conditions(transfer=Transfer(samples=extra, weight=4)).apply(data)
    taught = taught_samples(met)

    assert len(taught) == 360 + 90
    mine, theirs = taught.weights[:360], taught.weights[360:]
    assert torch.allclose(theirs / mine[:90], torch.tensor(4.0))
    assert taught.weights.mean() == pytest.approx(1)
    assert taught.label_mask().tolist() == [True] * 360 + [False] * 90
    assert len(set(taught.ids.tolist()) | set(met.test.ids.tolist())) == 360 + 90 + 40


def test_only_the_transfer_set_may_be_learnt_from(data) -> None:
    extra = Samples(torch.zeros(9, 3, 16, 16, dtype=torch.uint8), torch.arange(9), torch.ones(9))
    met = Conditions(transfer=Transfer(samples=extra, only=True, name="noise")).apply(data)

    assert taught_samples(met).inputs.shape == (9, 1, 8, 8)  # brought to size and channels
    assert taught_samples(met).labels is None
    assert "nothing but 9 unlabelled samples of noise" in met.notes[-1]


def test_conditions_that_do_not_suit_are_refused(data) -> None:
    table = from_arrays(np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) / 7.0)
    for conditions in (
        Conditions(omit=[1]),
        Conditions(long_tail=LongTail(ratio=2)),
        Conditions(label_noise=LabelNoise(share=0.2)),
    ):
        with pytest.raises(DataError, match="about classes, one a sample"):
            conditions.apply(table)
    with pytest.raises(DataError, match="have no transfer part"):
        Conditions(transfer=Transfer(weight=2)).apply(data)
    rows = Samples(torch.zeros(4, 7), torch.arange(4))
    with pytest.raises(DataError, match=r"shape \(7,\) and the training samples \(1, 8, 8\)"):
        Conditions(transfer=Transfer(samples=rows)).apply(data)
    for make in (
        lambda: LongTail(ratio=0.5),
        lambda: LabelNoise(share=1),
        lambda: Transfer(weight=0),
    ):
        with pytest.raises(RecipeError):
            make()


def test_frequencies_are_of_labelled_samples_alone(data) -> None:
    labels = torch.tensor([0, 0, 1, 3])
    some = Samples(
        torch.zeros(4, 1), torch.arange(4), labels, torch.tensor([True, True, True, False])
    )

    assert class_frequencies(some, 4).tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    with pytest.raises(DataError, match="one class each"):
        class_frequencies(data.train.unlabelled(), 4)
