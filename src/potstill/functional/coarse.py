"""Distributions over the classes that a teacher kept and one more bin: all the others together.

A divergence over these K + 1 bins never exceeds the one over all C classes, and equals it where
nothing is left in the tail.

Shapes: N rows, C classes, K kept classes, B = K + 1 bins of which the tail is the last.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from potstill.functional.closed_forms import LOWEST
from potstill.functional.reductions import upcast


class Kept(NamedTuple):
    """Which classes a teacher kept, and how likely it finds each bin.

    Args:
        ids_NK: int64; empty places repeat a class of the same row.
        filled_NK: bool, false in empty places.
        teacher_log_NB: log-probabilities that add up to 1; -inf in empty places.
    """

    ids_NK: Tensor
    filled_NK: Tensor
    teacher_log_NB: Tensor


def kept_classes(ids_NK: Tensor, logprobs_NK: Tensor, tail_N: Tensor) -> Kept:
    """The bins of a teacher's kept classes.

    Args:
        ids_NK: each class once in its row; without meaning in empty places.
        logprobs_NK: -inf in empty places.
        tail_N: the mass of all other classes; 0 where there is none.
    """
    log_NB = torch.cat([upcast(logprobs_NK), upcast(tail_N).log()[:, None]], dim=-1)
    filled_NK = logprobs_NK > -torch.inf
    likeliest_N1 = ids_NK.gather(1, logprobs_NK.argmax(dim=-1, keepdim=True))
    ids_NK = torch.where(filled_NK, ids_NK, likeliest_N1)
    return Kept(ids_NK, filled_NK, log_NB.log_softmax(dim=-1))


def binned(logits_NC: Tensor, kept: Kept) -> Tensor:
    """Logits `[N, B]` whose softmax are the probabilities of the bins; with gradient.

    The tail is summed over the classes in it, never computed as 1 minus the rest.
    """
    rest_NC = logits_NC.scatter(1, kept.ids_NK, LOWEST)
    kept_NK = logits_NC.gather(1, kept.ids_NK).masked_fill(~kept.filled_NK, LOWEST)
    return torch.cat([kept_NK, rest_NC.logsumexp(dim=-1)[:, None]], dim=-1)


class Tail(NamedTuple):
    """What `binned_in_place` remembers for the way back: the softmax among classes in the tail."""

    within_NC: Tensor


def binned_in_place(logits_NC: Tensor, kept: Kept) -> tuple[Tensor, Tail]:
    """As `binned`, without gradient; the logits are overwritten."""
    logits_NC.sub_(logits_NC.amax(dim=-1, keepdim=True))  # large logits would cost digits
    kept_NK = logits_NC.gather(1, kept.ids_NK).masked_fill_(~kept.filled_NK, LOWEST)
    rest_NC = logits_NC.scatter_(1, kept.ids_NK, LOWEST)
    within_NC = torch.softmax(rest_NC, dim=-1)
    tail_N = rest_NC.amax(dim=-1) - within_NC.amax(dim=-1).log()
    return torch.cat([kept_NK, tail_N[:, None]], dim=-1), Tail(within_NC)


def spread(gradient_NB: Tensor, kept: Kept, tail: Tail) -> Tensor:
    """The gradient by all logits, `[N, C]`, from the one by the bins; `tail` is overwritten."""
    gradient_NC = tail.within_NC.mul_(gradient_NB[:, -1:])
    kept_NK = gradient_NB[:, :-1].masked_fill(~kept.filled_NK, 0)
    return gradient_NC.scatter_add_(1, kept.ids_NK, kept_NK)
