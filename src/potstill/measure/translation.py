"""How near what a model writes comes to a reference: BLEU and chrF, as `sacrebleu` defines them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from potstill.errors import DataError, need

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU


def translation_scores(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU (Papineni et al. 2002) and chrF (Popović 2015), 0 … 100, and the length ratio.

    Equivalent to `sacrebleu.corpus_bleu` and `corpus_chrf` with their defaults (Post 2018,
    arXiv:1804.08771): cased, tokenised by 13a, exponential smoothing; chrF of 6 characters, β = 2.

    Args:
        written: what a model wrote.
        references: one for each.

    Raises:
        DataError: no texts, or as many references as texts there are not.
        MissingExtra: `sacrebleu` is not installed.
    """
    if len(written) != len(references) or not written:
        raise DataError(
            f"{len(written)} texts came with {len(references)} references; give one for each, and "
            "at least one."
        )
    sacrebleu = need("sacrebleu", extra="text")
    bleu = sacrebleu.corpus_bleu(list(written), [list(references)])
    chrf = sacrebleu.corpus_chrf(list(written), [list(references)])
    return {
        "bleu": float(bleu.score),
        "chrf": float(chrf.score),
        "length_ratio": float(bleu.sys_len / max(1, bleu.ref_len)),
    }


def sentence_bleu(written: str, reference: str) -> float:
    """BLEU of one sentence, 0 … 100, smoothed exponentially and counting only orders that occur."""
    metric: BLEU = need("sacrebleu.metrics.bleu", extra="text").BLEU(effective_order=True)
    return float(metric.sentence_score(written, [reference]).score)
