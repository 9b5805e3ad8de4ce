"""Elias–Fano rows against sets of ids, and damaged ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import StoreError
from potstill.store.codecs import succinct


def _write(rows: list[list[int]], classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = np.array([len(row) for row in rows])
    ids = np.array([i for row in rows for i in row], dtype=np.int64)
    ends = np.cumsum(succinct.sizes(ids, counts, classes))
    data = np.zeros(ends[-1], dtype=np.uint8)
    succinct.write(data, np.concatenate([[0], ends[:-1]]), ids, counts, classes)
    return data, ends, counts


def _read(data, ends, counts, classes: int) -> list[int]:
    begins = np.concatenate([[0], ends[:-1]])
    return succinct.read(data, begins, ends, counts, classes, "test").tolist()


@st.composite
def _rows(draw) -> tuple[list[list[int]], int]:
    classes = draw(st.one_of(st.integers(1, 300), st.integers(1, 2**31 - 1)))
    ids = st.sets(st.integers(0, classes - 1), min_size=1, max_size=40)
    return [sorted(row) for row in draw(st.lists(ids, min_size=1, max_size=5))], classes


@given(_rows())
@settings(max_examples=500, deadline=None, derandomize=True)
def test_sorted_ids_come_back(example) -> None:
    rows, classes = example

    data, ends, counts = _write(rows, classes)

    assert _read(data, ends, counts, classes) == [i for row in rows for i in row]
    sizes = np.diff(ends, prepend=0)
    assert all(s <= succinct.most_bytes(k, classes) for s, k in zip(sizes, counts, strict=True))


def test_an_id_of_a_vocabulary_takes_less_than_two_bytes() -> None:
    rows = [list(range(seed, 151_936, 3038)) for seed in range(20)]  # 50 or 51 a row

    data, _, counts = _write(rows, 151_936)

    assert 8 * len(data) / counts.sum() < np.log2(151_936 / 50) + 2.2


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda d: d[:-1], 3),  # an id is missing
        (lambda d: np.append(d, np.uint8(0)), 3),  # longer than it must be
        (lambda d: np.append(d, np.uint8(1)), 3),  # an id too many
        (lambda d: d, 2),  # another number of ids than said
        (lambda d: d, 9),  # too short for so many
        (lambda d: np.append(d[:-1], d[-1:] * 2), 3),  # the last id beyond the classes
        (lambda d: np.zeros_like(d), 3),
    ],
)
def test_damage_is_noticed(change, counts: int) -> None:
    data, _, _ = _write([[5, 800, 999]], 1000)
    data = change(data)

    with pytest.raises(StoreError, match="damaged"):
        _read(data, np.array([len(data)]), np.array([counts]), 1000)
