"""What tasks with one row a token share: choosing rows, keeping a few figures of each, scoring.

Shapes: B samples, L positions, N asked positions, V tokens (or classes) to choose from, D features.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.features.taps import tapped
from potstill.functional.tokens import Asked, asked
from potstill.protocols import TokenModel
from potstill.runtime.texts import PLACES
from potstill.signals import (
    AnyLogits,
    Batch,
    ForeignLogits,
    LazyLogits,
    Signals,
    SparseLogits,
    Target,
)
from potstill.tasks.foreign_rows import digest_foreign

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

NLL, CHOSEN, SURE = 0, 1, 2
"""Columns of what is kept of each row: -log p(label) in nats, the likeliest token, and its p."""

CHUNK_BYTES = 1 << 26
"""Of float32 logits that are looked at together when answers are digested."""


def asked_of(batch: Batch) -> Asked:
    """The positions of a batch that are asked for something.

    Raises:
        ModelError: the batch has no labels by position.
    """
    if batch.labels is None or batch.labels.ndim != 2 or batch.labels.is_floating_point():
        raise ModelError(
            "This task needs a label for each position, [samples, positions] int64 with -100 where "
            "nothing is asked; read the data with the task's own kind."
        )
    return asked(batch.labels)


class Reduction(StrEnum):
    """What a loss is the mean of."""

    TOKEN = "token"  # all that is asked counts alike
    SEQUENCE = "sequence"  # every text counts alike, however much is asked in it


def token_target(batch: Batch, *, reduction: Reduction = Reduction.TOKEN) -> Target:
    """One row for each position that is asked."""
    chosen = asked_of(batch)
    return Target(
        num_rows=len(chosen.index_N),
        labels=chosen.labels_N,
        labelled=None if batch.labelled is None else batch.labelled[chosen.samples_N],
        samples=chosen.samples_N,
        logprobs=None if batch.logprobs is None else batch.logprobs.flatten()[chosen.index_N],
        positions=batch.positions,
        weights=None if reduction is Reduction.TOKEN else _shares(batch, chosen),
    )


def _shares(batch: Batch, chosen: Asked) -> Tensor:
    """`[N]`: one over how much is asked in the row's text, also where texts share a row."""
    num_samples, length = batch.labels.shape if batch.labels is not None else (0, 0)
    texts_N = chosen.samples_N
    if batch.inputs.ndim == 3 and batch.inputs.shape[1] > PLACES:
        begun_BL = (batch.inputs[:, PLACES] == 0).cumsum(-1) - 1
        texts_N = texts_N * length + begun_BL.reshape(-1)[chosen.index_N]
    asked_T = torch.bincount(texts_N, minlength=num_samples)
    return 1.0 / asked_T[texts_N].float()


def token_signals(
    model: nn.Module, batch: Batch, layers: Sequence[str], *, vocabulary: int | None = None
) -> Signals:
    """What a model says at the positions that are asked; no other row reaches its head.

    Args:
        model: a `TokenModel`.
        batch: with labels by position.
        layers: whose outputs are wanted.
        vocabulary: how many columns of the head mean something; `None` means all.

    Raises:
        ModelError: the model does not say what goes into its head.
    """
    if not isinstance(model, TokenModel):
        raise ModelError(
            f"{type(model).__name__} is no model of tokens: it needs `states(batch)`, which gives "
            "[samples, positions, features], and `head`, the last linear layer."
        )
    features: Mapping[str, Tensor] = {}
    if layers:
        with tapped(model, layers) as features:
            states_BLD = model.states(batch)
    else:
        states_BLD = model.states(batch)
    index_N = asked_of(batch).index_N
    rows_ND = states_BLD.flatten(0, 1).index_select(0, index_N)
    classes = vocabulary if model.head.out_features != vocabulary else None
    return Signals(logits=LazyLogits(rows_ND, model.head, classes=classes), features=features)


def digest_of_rows(logits: AnyLogits | None, labels_N: Tensor | None) -> Tensor:
    """`[N, 3]` float32: `NLL`, `CHOSEN`, `SURE` of each row, computed some rows at a time.

    Of a teacher's kept classes, those that are not kept share their tail evenly.
    """
    assert logits is not None, "a task's forward gives logits"
    assert labels_N is not None, "sets that are scored are labelled"
    if isinstance(logits, SparseLogits):
        return _digest_kept(logits, labels_N)
    if isinstance(logits, ForeignLogits):
        return digest_foreign(logits)
    size = max(1, CHUNK_BYTES // (4 * logits.num_classes))
    parts = []
    for start in range(0, len(labels_N), size):
        rows = slice(start, start + size)
        if isinstance(logits, LazyLogits):
            scores_RV = logits.rows(rows).dense()
        else:
            scores_RV = logits.values_NC[rows]
        parts.append(_digest_dense(scores_RV.detach().float(), labels_N[rows]))
    return torch.cat(parts) if parts else torch.zeros(0, 3, device=labels_N.device)


def _digest_dense(scores_RV: Tensor, labels_R: Tensor) -> Tensor:
    total_R = scores_RV.logsumexp(-1)
    highest_R, chosen_R = scores_RV.max(-1)
    said_R = scores_RV.gather(1, labels_R[:, None])[:, 0]
    return torch.stack([total_R - said_R, chosen_R.float(), (highest_R - total_R).exp()], dim=1)


def _digest_kept(kept: SparseLogits, labels_N: Tensor) -> Tensor:
    highest_N, place_N = kept.logprobs_NK.max(-1)
    chosen_N = kept.ids_NK.gather(1, place_N[:, None])[:, 0]
    is_place_NK = kept.logprobs_NK > -torch.inf
    others_N = (kept.num_classes - is_place_NK.sum(-1)).clamp_min(1)
    found_NK = (kept.ids_NK == labels_N[:, None]) & is_place_NK
    said_N = kept.logprobs_NK.masked_fill(~found_NK, -torch.inf).max(-1).values
    rest_N = (kept.tail_N.clamp_min(1e-30) / others_N).log()
    nll_N = -torch.where(found_NK.any(-1), said_N, rest_N)
    return torch.stack([nll_N, chosen_N.float(), highest_N.exp()], dim=1).float()


def token_metrics() -> "MetricCollection":
    """Perplexity, the mean negative log-likelihood under it, and the share of tokens right."""
    from torchmetrics import MetricCollection

    from potstill.tasks.token_metrics import NegativeLogLikelihood, Perplexity, TokenAccuracy

    return MetricCollection(
        {
            "perplexity": Perplexity(),
            "nll": NegativeLogLikelihood(),
            "token_accuracy": TokenAccuracy(),
        },
        compute_groups=False,
    )
