"""ROUGE-L and exact match against what can be counted by hand."""

import random

import pytest

from potstill.errors import DataError
from potstill.measure.texts import exact_match, rouge_l


def longest_common(a: list[str], b: list[str]) -> int:
    """By trying everything: either the first words go together, or one of them is left out."""
    if not a or not b:
        return 0
    if a[0] == b[0]:
        return 1 + longest_common(a[1:], b[1:])
    return max(longest_common(a[1:], b), longest_common(a, b[1:]))


@pytest.mark.parametrize(
    ("written", "reference", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("police kill the gunman", "police killed the gunman", 0.75),  # Lin 2004, §3.1
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("The CAT, sat!", "the cat sat", 1.0),  # case and signs do not count
        ("a b", "a b c d", 2 * (1 * 0.5) / 1.5),
        ("", "a b", 0.0),
    ],
)
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(written, reference, expected) -> None:
    assert rouge_l([written], [reference]) == pytest.approx(expected, abs=1e-6)


def test_rouge_l_is_the_mean_over_texts() -> None:
    chance, written, references, expected = random.Random(3), [], [], []
    for _ in range(30):
        a = chance.choices("uvwxyz", k=chance.randint(1, 9))
        b = chance.choices("uvwxyz", k=chance.randint(1, 9))
        common = longest_common(a, b)
        expected.append(2 * common / (len(a) + len(b)))
        written.append(" ".join(a))
        references.append(" ".join(b))

    assert rouge_l(written, references) == pytest.approx(sum(expected) / 30, abs=1e-6)


def test_exact_match_counts_equal_texts() -> None:
    assert exact_match(["a b", " a  b\n", "A b", "a"], ["a b", "a b", "a b", "b"]) == 0.5


@pytest.mark.parametrize(("written", "references"), [(["a"], []), ([], [])])
@pytest.mark.parametrize("metric", [rouge_l, exact_match])
def test_unmatched_texts_are_refused(metric, written, references) -> None:
    with pytest.raises(DataError, match="one for each"):
        metric(written, references)
