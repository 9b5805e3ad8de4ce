"""What tasks share whose model writes: the next token, one row a token."""

from abc import ABC
from typing import TYPE_CHECKING

from torch import Tensor

from potstill.losses import CrossEntropy, Objective, weighted
from potstill.protocols import Task
from potstill.signals import Batch, Signals, Target
from potstill.tasks.token_rows import Reduction, digest_of_rows, token_metrics, token_target

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class NextToken(Task, ABC):
    """A task of tokens that are written; how the model is called is left to each.

    Args:
        reduction: `token` averages losses over all that is asked, `sequence` over texts.
    """

    kind = "tokens"
    primary = "perplexity"
    higher_is_better = False

    def __init__(self, *, reduction: Reduction | str = Reduction.TOKEN) -> None:
        self.reduction = Reduction(reduction)

    def target(self, batch: Batch) -> Target:
        """One row for each position that is asked, and whose it is."""
        return token_target(batch, reduction=self.reduction)

    def digest(self, signals: Signals, target: Target) -> Tensor:
        """`[N, 3]`: see `token_rows`."""
        return digest_of_rows(signals.logits, target.labels)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        """The digest as it is."""
        return outputs_NC

    def metrics(self, num_outputs: int) -> "MetricCollection":
        """Perplexity, negative log-likelihood, token accuracy."""
        return token_metrics()

    def default_objective(self) -> Objective:
        """Cross entropy."""
        return weighted(CrossEntropy())
