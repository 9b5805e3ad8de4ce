"""Records of samples and what a data set's digest depends on; normalisation constants."""

from dataclasses import replace

import pytest
import torch

from potstill.data import Normalise, Samples, load
from potstill.data.normalise import fit_images, fit_signals, fit_tables
from potstill.errors import DataError


def table(rows: int, *, first_id: int = 0) -> Samples:
    return Samples(
        torch.arange(rows * 2.0).view(rows, 2),
        torch.arange(first_id, first_id + rows),
        torch.arange(rows) % 2,
    )


def test_rows_are_taken_together():
    part = table(6).rows(torch.tensor([4, 1]))

    assert part.ids.tolist() == [4, 1]
    assert part.inputs.tolist() == [[8, 9], [2, 3]]
    assert part.labels.tolist() == [0, 1]
    assert len(table(6).rows(slice(2, 4))) == 2


def test_joined_samples_know_which_are_labelled():
    joined = table(3).concat(table(2, first_id=10).unlabelled())
    again = joined.concat(table(1, first_id=20))

    assert joined.labelled.tolist() == [True, True, True, False, False]
    assert joined.labels.tolist() == [0, 1, 0, 0, 0]
    assert again.labelled.tolist() == [True, True, True, False, False, True]
    assert again.ids.tolist() == [0, 1, 2, 10, 11, 20]


def test_joining_equally_labelled_samples_marks_nothing():
    assert table(3).concat(table(2)).labelled is None
    both = table(3).unlabelled().concat(table(2).unlabelled())
    assert both.labels is None
    assert both.labelled is None


def test_samples_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="3 inputs came with 2 ids"):
        Samples(torch.zeros(3, 2), torch.arange(2))
    with pytest.raises(DataError, match=r"inputs are \(2,\) .* cannot be joined with \(3,\)"):
        table(2).concat(Samples(torch.zeros(1, 3), torch.arange(1)))


def test_the_fingerprint_follows_the_contents():
    data = load("builtin", {"name": "wine"})
    changed = data.train.inputs.clone()
    changed[3, 4] += 0.001

    same = load("builtin", {"name": "wine"}).fingerprint()
    others = [
        replace(data, train=replace(data.train, inputs=changed)).fingerprint(),
        replace(data, test=data.test.rows(slice(1, None))).fingerprint(),
        replace(data, transfer=data.test.unlabelled()).fingerprint(),
        replace(data, normalise=Normalise()).fingerprint(),
        replace(data, classes=("a", "b", "c")).fingerprint(),
        load("builtin", {"name": "wine"}, seed=1).fingerprint(),
    ]

    assert data.fingerprint() == same
    assert replace(data, name="other").fingerprint() == same
    assert len({same, *others}) == 7


def test_constants_standardise_what_they_were_fitted_on():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 200, (50, 3, 4, 5), generator=generator, dtype=torch.uint8)
    waves = torch.randn(50, 2, 30, generator=generator) * 7 + 3
    numbers = torch.randn(50, 6, generator=generator) * 100 - 20

    for raw, normalise, dims in (
        (pixels, fit_images(pixels), (0, 2, 3)),
        (waves, fit_signals(waves), (0, 2)),
        (numbers, fit_tables(numbers), (0,)),
    ):
        ready = normalise(raw)
        assert ready.dtype == torch.float32
        zeros = torch.zeros(raw.shape[1])
        torch.testing.assert_close(ready.mean(dims), zeros, atol=1e-5, rtol=0)
        torch.testing.assert_close(ready.std(dims, correction=0), zeros + 1, atol=1e-4, rtol=0)


def test_what_never_varies_is_only_centred():
    for constant in (0.0, 12345.678, -3.3e-4):
        ready = fit_tables(torch.full((9, 1), constant))(torch.full((9, 1), constant))
        assert ready.abs().max() < 1e-3


def test_the_module_equals_the_function_and_carries_its_constants():
    normalise = Normalise(torch.tensor([[[0.5]]]), torch.tensor([[[0.25]]]), 255.0)
    raw = torch.randint(0, 256, (4, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator())

    module = normalise.as_module()

    assert torch.equal(module(raw), normalise(raw))
    assert set(module.state_dict()) == {"mean", "std"}
    assert torch.equal(Normalise(scale=255.0).as_module()(raw), raw.float() / 255)
