"""A table of token vectors distilled from an encoder: what it says of every token on its own.

Shapes: V tokens, D channels of the encoder, W of the table.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from potstill.errors import ModelError
from potstill.models.answering import Encoder
from potstill.models.token_tables import rare_weights, tokens_alone
from potstill.runtime.modes import evaluating

SMOOTHING = 1e-4
"""a of the weights a / (a + p) that tokens of probability p have."""

BATCH = 512
_HEAD = {"classifier", "pre_classifier", "pooler"}
"""Modules that the table does not depend on."""

_LAST: dict[str, Tensor] = {}
"""The table that was made last, by what it was made of: every seed of a run asks for it."""


def distilled_table(teacher: Encoder, *, width: int, frame: Sequence[int]) -> Tensor:
    """`[V, W]`: the encoder's mean last hidden state of each token, reduced, weighted.

    Each token is read alone between the special ones; principal components bring D to `width`; and
    a token of probability p, by Zipf's law from its place in the vocabulary, weighs a / (a + p)
    (Arora et al. 2017, "A simple but tough-to-beat baseline for sentence embeddings"). The steps
    are those of Tulkens and van Dongen 2024 (Model2Vec, github.com/MinishLab/model2vec).

    Args:
        teacher: left as it was found.
        width: at most D.
        frame: special tokens that stand before (all but the last) and after (the last) a text.

    Raises:
        ModelError: a width that is larger than the encoder's.
    """
    wide = teacher.sized("hidden_size")
    if not 0 < width <= wide:
        raise ModelError(
            f"`width: {width}` of a distilled table must lie between 1 and the teacher's {wide}."
        )
    digest = hashlib.sha256(repr((width, tuple(frame))).encode())
    for name, tensor in teacher.state_dict().items():
        if not _HEAD & set(name.split(".")):  # which may be new, and random by seed
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    key = digest.hexdigest()
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = _weighted(_reduced(_said_of_tokens(teacher, frame), width))
    return _LAST[key]


def _said_of_tokens(teacher: Encoder, frame: Sequence[int]) -> Tensor:
    """`[V, D]`, the mean over the token and those around it."""
    vocabulary = teacher.sized("vocab_size")
    said = []
    with evaluating(teacher), torch.no_grad():
        for ids_BT in tokens_alone(vocabulary, frame, together=BATCH):
            told = teacher.told(ids_BT, torch.ones_like(ids_BT))
            states = teacher.model(**told, output_hidden_states=True).hidden_states
            said.append(states[-1].mean(dim=1))
    return torch.cat(said)


def _reduced(said_VD: Tensor, width: int) -> Tensor:
    """`[V, W]`, the largest principal components."""
    centred = (said_VD - said_VD.mean(dim=0)).double()
    directions_DD: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors  # ascending
    return (centred @ directions_DD[:, -width:].flip(1)).float()


def _weighted(table_VW: Tensor) -> Tensor:
    return table_VW * rare_weights(len(table_VW), SMOOTHING)[:, None].float()
