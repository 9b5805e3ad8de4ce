"""The one place that says which token a position is asked for, and which positions are asked.

Shapes: B samples, L positions, N asked positions of all samples, one after another.
"""

from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100
"""The label of a position that is not asked anything, as in Transformers."""


class Asked(NamedTuple):
    """The positions with a label, flat.

    Args:
        index_N: int64, into `[B * L]`.
        labels_N: int64, what each is asked for.
        samples_N: int64, 0 … B - 1, whose position it is.
    """

    index_N: Tensor
    labels_N: Tensor
    samples_N: Tensor


def next_tokens(ids_BL: Tensor, texts_BL: Tensor, answers_BL: Tensor | None = None) -> Tensor:
    """What a causal model is asked at each position: the token after it, `[B, L]` int64.

    This is the only shift: logits at position l belong to the label at position l, everywhere. The
    last token of a text is asked nothing, so packed texts do not predict each other's beginnings.

    Args:
        ids_BL: tokens.
        texts_BL: which text a token belongs to, from 1; 0 in the padding.
        answers_BL: bool, which tokens are to be predicted; all but each text's first if left out.
    """
    same_BM = (texts_BL[:, 1:] == texts_BL[:, :-1]) & (texts_BL[:, 1:] != 0)
    if answers_BL is not None:
        same_BM &= answers_BL[:, 1:]
    labels_BL = torch.full(ids_BL.shape, IGNORED, dtype=torch.int64, device=ids_BL.device)
    labels_BL[:, :-1] = torch.where(same_BM, ids_BL[:, 1:].long(), IGNORED)
    return labels_BL


def shifted_right(written_BL: Tensor, start: int) -> Tensor:
    """What a decoder is given so that it says `written_BL` position by position, `[B, L]` int64.

    The only shift of encoder-decoders: position l is given the token before it, the first one
    `start`; so logits at position l belong to the label at position l here too.
    """
    shifted_BL = torch.empty_like(written_BL)
    shifted_BL[:, 0] = start
    shifted_BL[:, 1:] = written_BL[:, :-1]
    return shifted_BL


def asked(labels_BL: Tensor) -> Asked:
    """The positions that have a label, sample by sample. Waits for the device once."""
    flat = labels_BL.reshape(-1)
    index_N = (flat != IGNORED).nonzero()[:, 0]
    return Asked(index_N, flat[index_N], index_N // labels_BL.shape[1])
