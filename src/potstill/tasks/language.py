"""Language modelling: one row a token that is to be predicted."""

from collections.abc import Sequence
from typing import final

from torch import nn

from potstill.signals import Batch, Signals
from potstill.tasks.next_token import NextToken
from potstill.tasks.token_rows import Reduction, token_signals


@final
class CausalLM(NextToken):
    """The next token. Model: a `TokenModel`; labels `[B, L]` int64, -100 where nothing is asked.

    Positions that are asked nothing (prompts, padding, the last token of a text) are left out
    before the model's head, so there is no tensor of all positions times the vocabulary.

    Args:
        vocabulary: how many tokens the tokenizer has. Columns of a head beyond, which pad its width
            and differ between models of one family, are left out; `None` takes all of them.
        reduction: `token` averages losses over all that is asked, `sequence` over texts.
    """

    name = "causal_lm"

    def __init__(
        self, *, reduction: Reduction | str = Reduction.TOKEN, vocabulary: int | None = None
    ) -> None:
        super().__init__(reduction=reduction)
        self.vocabulary = vocabulary

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Logits that are not computed yet, one row for each position asked."""
        return token_signals(model, batch, layers, vocabulary=self.vocabulary)
