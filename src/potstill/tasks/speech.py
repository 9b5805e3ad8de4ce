"""Writing what is heard, token by token: Whisper and its kin."""

from collections.abc import Sequence
from typing import final

from torch import nn

from potstill.errors import ModelError
from potstill.signals import Batch, Signals
from potstill.tasks.next_token import NextToken
from potstill.tasks.token_rows import token_signals


@final
class Dictation(NextToken):
    """The next token of what is written about a sound. Model: a `models.whisper.SpeechWriter`.

    Inputs are planes `[B, 2, L]` (the wave, and where it stands), labels `[B, U]` int64 the tokens
    to be written, -100 in the padding. Models are selected by perplexity, which costs one pass over
    the validation data, and judged by the word error rate of what they write about the test data.

    Args:
        reduction: `token` averages losses over all that is written, `sequence` over texts.
    """

    name = "asr"
    judged_by = "wer"
    judged_higher_is_better = False

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Logits that are not computed yet, one row for each token to be written.

        Raises:
            ModelError: layers, whose positions are not those of the tokens.
        """
        if layers:
            raise ModelError(
                f"`{layers[0]}` is a layer, and terms on layers are not built for `task: asr` with "
                "models that write; use terms on logits."
            )
        return token_signals(model, batch, layers)
