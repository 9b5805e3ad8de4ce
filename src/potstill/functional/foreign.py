"""Distributions over two vocabularies, brought to bins that both have.

At the first byte of a span (see `potstill.signals.Spans`) both models have read the same text, and
what either says next is a distribution over its own tokens. The bins are the J tokens that both
have, one for "any other token", and one for spans that are no common token. A span of several
tokens has the product of their probabilities (the chain rule); what its first token loses by that
stays with it: "this token, and then something else". So the bins of a row always add up to 1, and
with equal vocabularies they are the tokens themselves.

F rows that begin a span, C tokens, J common tokens, U spans of several tokens.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.functional.divergences import LOG_TINY


class Joined(NamedTuple):
    """The spans of several tokens among F rows, seen from one side.

    Args:
        row_U: int64, which of the F rows.
        token_U: int64, the span's first token.
        later_U: the log-probability of the span's other tokens, 0 if there are none.
        bin_U: int64, the bin that the span belongs to; J + 1 if it is no common token.
    """

    row_U: Tensor
    token_U: Tensor
    later_U: Tensor
    bin_U: Tensor


def bins(
    log_FC: Tensor, common_J: Tensor, rest: Tensor, joined: Joined | None, *, with_rest: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the bins, `[F, J + 2]`, and of the tokens that are not common.

    Args:
        log_FC: log-probabilities of all tokens.
        common_J: int64, the tokens of the first J bins.
        rest: int64, the tokens of bin J, one for all.
        joined: spans of several tokens; `None` if there are none.
        with_rest: whether bin J counts; without it the others are made to add up to 1.
    """
    span_U: Tensor | None = None
    if joined is not None:
        first_U = log_FC[joined.row_U, joined.token_U]
        span_U = first_U + joined.later_U
        left_U = first_U + _log_of_the_others(joined.later_U)
        log_FC = log_FC.index_put((joined.row_U, joined.token_U), left_U)
    rest_FR = log_FC.index_select(1, rest)
    none_F1 = log_FC.new_full((len(log_FC), 1), LOG_TINY)
    rest_F1 = rest_FR.logsumexp(dim=-1, keepdim=True) if with_rest else none_F1
    bins_FB = torch.cat([log_FC.index_select(1, common_J), rest_F1, none_F1], dim=-1)
    if joined is not None:
        assert span_U is not None
        place = (joined.row_U, joined.bin_U)
        bins_FB = bins_FB.index_put(place, torch.logaddexp(bins_FB[place], span_U))
    return F.log_softmax(bins_FB, dim=-1), rest_FR


def sorted_distance(first_FR: Tensor, second_FS: Tensor) -> Tensor:
    """`[F]`: Σ |first - second| after sorting each row, the shorter one filled up with zeros.

    Args:
        first_FR: 0 or more.
        second_FS: likewise.
    """
    few_FR, many_FS = sorted((first_FR, second_FS), key=lambda values: values.shape[-1])
    few_FR = few_FR.sort(dim=-1, descending=True).values
    most_FR = many_FS.topk(few_FR.shape[-1], dim=-1).values  # the others meet zeros: add them up
    others_F = (many_FS.sum(dim=-1) - most_FR.sum(dim=-1)).clamp(min=0)
    return (few_FR - most_FR).abs().sum(dim=-1) + others_F


def _log_of_the_others(log_U: Tensor) -> Tensor:
    """Log(1 - exp(log)), at least -87.3."""
    rest_U = -torch.expm1(log_U.clamp(max=0))
    tiny = torch.finfo(torch.float32).tiny
    return rest_U.clamp(min=tiny).log()
