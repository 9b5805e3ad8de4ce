"""Metrics of digested rows, `[N, 3]` (see `token_rows`): what language models are scored by."""

from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric

_NLL, _CHOSEN = 0, 1


class _MeanOfRows(Metric):
    """The mean of a figure over rows, in double precision."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, digest_NK: Tensor, labels_N: Tensor) -> None:
        """Add rows."""
        self.total += self.figure(digest_NK, labels_N).double().sum()
        self.count += len(digest_NK)

    def compute(self) -> Tensor:
        """The mean."""
        return self.total / self.count.clamp_min(1)

    def figure(self, digest_NK: Tensor, labels_N: Tensor) -> Tensor:
        """`[N]`, what is averaged."""
        return digest_NK[:, _NLL]


@final
class NegativeLogLikelihood(_MeanOfRows):
    """The mean of -log p(label), in nats a token."""

    higher_is_better = False


@final
class Perplexity(_MeanOfRows):
    """The exponential of the mean negative log-likelihood over all tokens together."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """`exp(mean)`."""
        return super().compute().exp()


@final
class TokenAccuracy(_MeanOfRows):
    """How often the likeliest token is the right one."""

    higher_is_better = True

    def figure(self, digest_NK: Tensor, labels_N: Tensor) -> Tensor:
        """1 where it is right."""
        return (digest_NK[:, _CHOSEN].long() == labels_N).double()
