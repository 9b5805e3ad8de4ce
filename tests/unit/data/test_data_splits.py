"""Splits: deterministic, disjoint, complete, in proportion."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.splits import cut, part_size
from potstill.errors import DataError


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
def test_parts_are_disjoint_complete_and_of_the_size_asked_for(counts, share, seed):
    classes = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    rows = len(classes)
    size = round(share * rows)
    if not 0 < size < rows:
        return

    kept, chosen = cut(rows, size, seed=seed, classes=classes)

    assert len(chosen) == size
    assert torch.cat([kept, chosen]).sort().values.tolist() == list(range(rows))
    assert torch.equal(kept, kept.sort().values)


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=6),
    share=st.floats(0.05, 0.95),
)
def test_classes_are_cut_in_proportion(counts, share):
    classes = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    rows = len(classes)
    size = round(share * rows)
    if min(size, rows - size) < len(counts):
        return

    kept, chosen = cut(rows, size, seed=0, classes=classes)

    got = torch.bincount(classes[chosen], minlength=len(counts))
    left = torch.bincount(classes[kept], minlength=len(counts))
    exact = torch.tensor(counts) * size / rows
    assert got.min() >= 1
    assert left.min() >= 1
    # One for rounding; more only where another class had to keep or give its one row.
    forced = ((exact < 1) | (exact > torch.tensor(counts) - 1)).sum()
    assert (got - exact).abs().max() <= 1 + forced


def test_the_seed_decides_and_the_global_generator_does_not():
    classes = torch.arange(60) % 3
    before = torch.get_rng_state()

    first = cut(60, 12, seed=1, classes=classes)[1]

    assert torch.equal(first, cut(60, 12, seed=1, classes=classes)[1])
    assert not torch.equal(first, cut(60, 12, seed=2, classes=classes)[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rows_of_a_class_are_equally_likely():
    classes = torch.arange(30) % 3
    counts = torch.zeros(30)
    for seed in range(600):
        counts[cut(30, 6, seed=seed, classes=classes)[1]] += 1

    # 120 expected with a standard deviation of 10.
    assert (counts - 120).abs().max() < 45


def test_a_class_of_one_row_falls_back_to_a_plain_permutation():
    classes = torch.tensor([0] * 20 + [1])

    kept, chosen = cut(21, 5, seed=3, classes=classes)

    assert torch.equal(chosen, cut(21, 5, seed=3)[1])
    assert len(kept) == 16


def test_sizes_are_shares_or_numbers():
    assert part_size(0.1, 54, name="validation") == 5
    assert part_size(7, 54, name="validation") == 7


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "leaves the validation part empty"),
        (0.0, "leaves the validation part empty"),
        (0.001, "leaves the validation part empty"),
        (50, "takes 50 of 50 rows and leaves none to train on"),
        (1.5, "must lie between 0 and 1"),
        (-0.5, "must lie between 0 and 1"),
        (-3, "leaves the validation part empty"),
        (True, "a share such as 0.1"),
    ],
)
def test_impossible_sizes_are_refused(size, message):
    with pytest.raises(DataError, match=message):
        part_size(size, 50, name="validation")
