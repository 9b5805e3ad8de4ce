"""Metrics of written texts against references: ROUGE-L and exact match."""

from collections.abc import Sequence

from potstill.errors import DataError


def rouge_l(written: Sequence[str], references: Sequence[str]) -> float:
    """The mean ROUGE-L F1 of texts (Lin 2004, "ROUGE: a package for automatic evaluation").

    The F1 of precision and recall of the longest common subsequence of words. Words are runs of
    a-z and 0-9 in lower case, without stemming, so texts in other scripts score nothing.

    Raises:
        DataError: not one reference for each text, or no text.
    """
    from torchmetrics.functional.text.rouge import rouge_score

    _check(written, references)
    found = rouge_score(list(written), list(references), rouge_keys="rougeL")
    return float(found["rougeL_fmeasure"])


def exact_match(written: Sequence[str], references: Sequence[str]) -> float:
    """The share of texts that equal their reference; how they are spaced does not count.

    Raises:
        DataError: not one reference for each text, or no text.
    """
    _check(written, references)
    pairs = zip(written, references, strict=True)
    return sum(a.split() == b.split() for a, b in pairs) / len(written)


def _check(written: Sequence[str], references: Sequence[str]) -> None:
    if len(written) != len(references) or not written:
        raise DataError(
            f"{len(written)} texts came with {len(references)} references; give one for each text, "
            "and at least one."
        )
