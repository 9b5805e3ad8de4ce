"""Translation and its kin: one text is read, another is written, token by token."""

from collections.abc import Sequence
from typing import final

from torch import nn

from potstill.errors import ModelError
from potstill.signals import Batch, Signals
from potstill.tasks.next_token import NextToken
from potstill.tasks.token_rows import token_signals


@final
class Seq2Seq(NextToken):
    """The next token of what is written. Model: a `models.encoder_decoder.TranslationModel`.

    Inputs are planes `[B, 4, L]` (see `data.tokens.Tokens.pairs`), labels `[B, L]` int64 the tokens
    to be written, -100 in the padding. Models are selected by perplexity, which costs one pass over
    the validation data, and judged by BLEU of what they write about the test data.

    Args:
        reduction: `token` averages losses over all that is written, `sequence` over texts.
    """

    name = "seq2seq"
    judged_by = "bleu"

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
