"""How far what a model wrote is from what was said: word and character error rates."""

import re
from collections.abc import Sequence

from torchmetrics.functional.text import char_error_rate, word_error_rate

from potstill.errors import DataError


def transcription_scores(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Word and character error rates over all texts together, 0 or more.

    Equivalent to `torchmetrics.functional.text.word_error_rate` and `char_error_rate` of the texts
    in lower case, without punctuation and with single spaces.

    Args:
        written: what a model wrote.
        references: one for each.

    Raises:
        DataError: no texts, or not as many references as texts.
    """
    if len(written) != len(references) or not written:
        raise DataError(
            f"{len(written)} texts came with {len(references)} references; give one for each, and "
            "at least one."
        )
    mine, theirs = [plain(text) for text in written], [plain(text) for text in references]
    return {
        "wer": float(word_error_rate(mine, theirs)),
        "cer": float(char_error_rate(mine, theirs)),
    }


def word_errors(written: str, reference: str) -> float:
    """The word error rate of one text."""
    return transcription_scores([written], [reference])["wer"]


def plain(text: str) -> str:
    """Lower case, letters, digits and apostrophes alone, single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s']|_", " ", text.lower())).strip()
