"""A batch of texts with some of its rows replaced by other texts.

Shapes: B samples, P planes (token ids, attention mask), L positions.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from potstill.functional.tokens import IGNORED, next_tokens
from potstill.runtime.texts import MASK
from potstill.signals import Batch
from potstill.train.replay import Sample

MULTIPLE = 8
"""Batches are padded to a multiple of so many tokens, as `data.Feed` does it."""


def replaced(batch: Batch, samples: Mapping[int, Sample], *, pad: int) -> Batch:
    """The batch with samples in some of its rows, asked for what was written in them.

    Replaced rows carry no label, and the log-probabilities of what was drawn, where it was.

    Args:
        batch: planes `[B, 2, L]` and labels `[B, L]`.
        samples: by row.
        pad: the token that fills up.
    """
    labels, inputs = batch.labels, batch.inputs
    assert labels is not None, "batches of language models have labels"
    longest = max(inputs.shape[2], *(len(sample.tokens) for sample in samples.values()))
    width = -(-longest // MULTIPLE) * MULTIPLE if longest > inputs.shape[2] else inputs.shape[2]
    inputs = _wider(inputs, width, fill=0)
    inputs[:, 0, batch.inputs.shape[2] :] = pad
    labels = _wider(labels, width, fill=IGNORED)
    logprobs = torch.full(labels.shape, torch.nan, device=labels.device)
    everywhere = torch.ones(len(batch), dtype=torch.bool, device=labels.device)
    labelled = everywhere if batch.labelled is None else batch.labelled.clone()
    for row, sample in samples.items():
        length, start = len(sample.tokens), sample.start
        tokens = sample.tokens.to(labels.device)
        inputs[row, 0], inputs[row, MASK] = pad, 0
        inputs[row, 0, :length] = tokens.to(inputs.dtype)
        inputs[row, MASK, :length] = 1
        answers = torch.arange(length, device=labels.device) >= start
        labels[row] = IGNORED
        ones = torch.ones(1, length, dtype=torch.int64, device=labels.device)
        labels[row, :length] = next_tokens(tokens[None], ones, answers[None])[0]
        if sample.logprobs is not None:
            logprobs[row, start - 1 : length - 1] = sample.logprobs.to(labels.device)
        labelled[row] = False
    return replace(
        batch,
        inputs=inputs,
        labels=labels,
        labelled=labelled,
        logprobs=logprobs,
        raw=None if batch.raw is None else inputs,
        origin=None,
        positions=inputs[:, MASK].bool(),
    )


def undrawn(batch: Batch) -> Batch:
    """The batch as one of which the student drew nothing, for terms on what it draws."""
    labels = batch.labels
    if batch.logprobs is not None or labels is None or labels.ndim != 2:
        return batch
    return replace(batch, logprobs=torch.full(labels.shape, torch.nan, device=labels.device))


def _wider(tensor: Tensor, width: int, *, fill: int) -> Tensor:
    """A copy with more positions."""
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]), value=fill).clone()
