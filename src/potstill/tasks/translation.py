"""Translation and its kin: one text is read, another is written, token by token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from potstill.errors import ModelError
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
class Seq2Seq(Task):
    """The next token of what is written. Model: a `models.encoder_decoder.TranslationModel`.

    Inputs are planes `[B, 4, L]` (see `data.tokens.Tokens.pairs`), labels `[B, L]` int64 the tokens
    to be written, -100 in the padding. Models are selected by perplexity, which costs one pass over
    the validation data, and judged by BLEU of what they write about the test data.

    Args:
        reduction: `token` averages losses over all that is written, `sequence` over texts.
    """

    kind = "tokens"
    name = "seq2seq"
    primary = "perplexity"
    higher_is_better = False
    judged_by = "bleu"

    def __init__(self, *, reduction: Reduction | str = Reduction.TOKEN) -> None:
        self.reduction = Reduction(reduction)

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Logits that are not computed yet, one row for each token to be written.

        Raises:
            ModelError: layers of the decoder, whose positions are not those of the text read.
        """
        wrong = next((name for name in layers if ".decoder" in name), None)
        if wrong is not None:
            raise ModelError(
                f"`{wrong}` is a layer of the decoder, and terms on layers read those of the "
                "encoder; name one of these."
            )
        return token_signals(model, batch, layers)

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
