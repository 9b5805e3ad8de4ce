"""Language modelling: one row a token that is to be predicted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from potstill.losses import CrossEntropy, Objective, weighted
from potstill.protocols import Task
from potstill.signals import Batch, Signals, Target
from potstill.tasks.token_rows import (
    Reduction,
    digest_of_rows,
    token_metrics,
    token_signals,
    token_target,
)

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


@final
class CausalLM(Task):
    """The next token. Model: a `TokenModel`; labels `[B, L]` int64, -100 where nothing is asked.

    Positions that are asked nothing (prompts, padding, the last token of a text) are left out
    before the model's head, so there is no tensor of all positions times the vocabulary.

    Args:
        vocabulary: how many tokens the tokenizer has. Columns of a head beyond, which pad its width
            and differ between models of one family, are left out; `None` takes all of them.
        reduction: `token` averages losses over all that is asked, `sequence` over texts.
    """

    kind = "tokens"
    name = "causal_lm"
    primary = "perplexity"
    higher_is_better = False

    def __init__(
        self, *, reduction: Reduction | str = Reduction.TOKEN, vocabulary: int | None = None
    ) -> None:
        self.reduction = Reduction(reduction)
        self.vocabulary = vocabulary

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Logits that are not computed yet, one row for each position asked."""
        return token_signals(model, batch, layers, vocabulary=self.vocabulary)

    def target(self, batch: Batch) -> Target:
        """The same rows, and whose they are."""
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
