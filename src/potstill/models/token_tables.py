"""What tables of token vectors have in common: tokens read alone, and weights by how rare they are.

Shapes: V tokens, B of them together, L positions.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def tokens_alone(vocabulary: int, frame: Sequence[int], *, together: int) -> Iterator[Tensor]:
    """Texts of one token each, `[B, L]`, in the order of the vocabulary.

    Args:
        vocabulary: V.
        frame: special tokens that stand before (all but the last) and after (the last) a text.
        together: B at most.
    """
    around = torch.tensor(list(frame), dtype=torch.int64)
    for tokens_B in torch.split(torch.arange(vocabulary), together):
        before_BK = around[:-1].expand(len(tokens_B), -1)
        after_BK = around[-1:].expand(len(tokens_B), -1)
        yield torch.cat([before_BK, tokens_B[:, None], after_BK], dim=1)


def rare_weights(vocabulary: int, smoothing: float) -> Tensor:
    """`[V]` float64: a / (a + p), p ∝ 1 / place: vocabularies begin with common tokens (Zipf).

    From Arora et al. 2017, "A simple but tough-to-beat baseline for sentence embeddings".

    Args:
        vocabulary: V.
        smoothing: a; 0 weighs all alike.
    """
    inverse_V = 1 / torch.arange(1, vocabulary + 1, dtype=torch.float64)
    if smoothing <= 0:
        return torch.ones_like(inverse_V)
    return smoothing / (smoothing + inverse_V / inverse_V.sum())
