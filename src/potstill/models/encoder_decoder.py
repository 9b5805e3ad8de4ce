"""Encoder-decoder models of Hugging Face Transformers: T5, Marian, BART and their kin.

They read one text and write another. The wrapper gives the states that go into the head, so that
the head is computed for asked positions alone, and it writes texts. For taps, layers are called
`model.<name in Transformers>`, such as `model.model.encoder.layers.0` (Marian, BART) or
`model.encoder.block.0` (T5).

Shapes: B pairs of texts, L positions, D features, V tokens of the vocabulary, T tokens written.
"""

from collections.abc import Mapping
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.functional.tokens import shifted_right
from potstill.models.config import Json
from potstill.runtime.texts import PAIRED
from potstill.signals import Batch


@final
class TranslationModel(nn.Module):
    """An encoder-decoder of Transformers as a model of tokens (`protocols.TokenModel`).

    Its inputs are planes `[B, 4, L]`: the tokens read and where they stand, the tokens to be
    written and where they stand (see `data.tokens.Tokens.pairs`). The decoder is given what is to
    be written, moved to the right (teacher forcing).

    Args:
        model: for conditional generation, with a linear output layer.

    Raises:
        ModelError: the model has no linear head, or no token to begin with.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        inner, name = cast("Any", model), type(model).__name__
        if not isinstance(inner.get_output_embeddings(), nn.Linear):
            raise ModelError(
                f"{name} has no linear output layer, which losses on parts of the vocabulary need; "
                "choose another model."
            )
        if inner.config.decoder_start_token_id is None:
            raise ModelError(
                f"{name} does not say which token begins what it writes; set "
                "`config: {decoder_start_token_id: …}`."
            )

    @property
    def head(self) -> nn.Linear:
        """From states to logits; of models that add a bias to their logits, with that bias."""
        inner = cast("Any", self.model)
        plain: nn.Linear = inner.get_output_embeddings()
        bias_1V = getattr(inner, "final_logits_bias", None)
        if bias_1V is None:
            return plain
        with_bias = nn.Linear(plain.in_features, plain.out_features, bias=False, device="meta")
        with_bias.weight = plain.weight
        with_bias.bias = nn.Parameter(bias_1V[0], requires_grad=False)
        return with_bias

    def settings(self) -> Mapping[str, Json]:
        """What of the Transformers config differs from the defaults of its type."""
        return cast("Any", self.model).config.to_diff_dict()  # type: ignore[no-any-return]

    def states(self, batch: Batch) -> Tensor:
        """`[B, L, D]`: what goes into the head at each position that is to be written."""
        return self._states(batch.inputs)

    def forward(self, planes_BPL: Tensor) -> Tensor:
        """All logits at once, `[B, L, V]`; for measuring and small models."""
        logits_BLV: Tensor = self.head(self._states(planes_BPL))
        return logits_BLV

    @torch.no_grad()
    def write(self, planes_BPL: Tensor, *, beams: int = 1, each: int = 1, longest: int) -> Tensor:
        """What the model makes of the texts read, `[B * each, T]` int64 with padding.

        Equivalent to `model.generate`, which keeps keys and values of what is written already.

        Args:
            planes_BPL: `[B, 2 or more, L]`; what is to be written is not looked at.
            beams: of the search; 1 takes the likeliest token each time.
            each: how many of the beams are given back for each text, likeliest first.
            longest: at most so many tokens are written.
        """
        ids_BL, mask_BL = planes_BPL[:, 0].long(), planes_BPL[:, 1].long()
        size = max(1, int(mask_BL.sum(-1).max()))
        places = getattr(cast("Any", self.model).config, "max_position_embeddings", None)
        if places is not None:
            longest = min(longest, int(places) - 1)
        written: Tensor = cast("Any", self.model).generate(
            input_ids=ids_BL[:, :size],
            attention_mask=mask_BL[:, :size],
            num_beams=beams,
            num_return_sequences=each,
            do_sample=False,
            max_new_tokens=longest,
            max_length=None,
        )
        return written

    def _states(self, planes_BPL: Tensor) -> Tensor:
        if planes_BPL.shape[1] != PAIRED:
            raise ModelError(
                f"{type(self.model).__name__} reads one text and writes another: {PAIRED} planes "
                f"are expected, and the inputs have {planes_BPL.shape[1]}. Use data source `pairs`."
            )
        ids_BL, mask_BL, written_BL, _ = planes_BPL.long().unbind(1)
        inner = cast("Any", self.model)
        return before_head(
            inner,
            input_ids=ids_BL,
            attention_mask=mask_BL,
            decoder_input_ids=shifted_right(written_BL, inner.config.decoder_start_token_id),
            use_cache=False,
        )


def before_head(model: Any, **given: object) -> Tensor:  # noqa: ANN401  of Transformers
    """`[B, L, D]`, what a model of Transformers gives its head when it is called so.

    The model scales its states or not before its head; what the head is given is caught, and the
    head is given no rows instead.
    """
    caught: list[Tensor] = []

    def catch(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        caught.append(args[0])
        return (args[0][:, :0],)

    handle = model.get_output_embeddings().register_forward_pre_hook(catch)
    try:
        model(**given)
    finally:
        handle.remove()
    (states_BLD,) = caught
    return states_BLD
