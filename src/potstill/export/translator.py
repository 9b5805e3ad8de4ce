"""Encoder-decoders as two ONNX files, and the loop that writes texts with them, without torch.

`encoder.onnx` is run once for each text, `decoder.onnx` once for each token: it is given all that
is written so far and answers with the logits of the next token. Keys and values are not kept
between tokens, so long texts cost more than with `generate`.

Shapes: B texts, S tokens read, T tokens written so far, D features, V tokens of the vocabulary.
"""

from pathlib import Path
from typing import Any, TypedDict, cast, final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import ExportError, need
from potstill.export.onnx import export_graph
from potstill.functional.tokens import shifted_right
from potstill.runtime.modes import evaluating

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
BOUND = 1e-4
"""Relative difference that the files' logits may have."""

Whole = NDArray[np.int64]


class Translated(TypedDict):
    """How the files answer beside the model that they were written from."""

    positions: int
    relative: float
    bound: float
    agreement: float


@final
class _Encoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        encoder = cast("Any", self.model).get_encoder()
        states: Tensor = encoder(input_ids=ids_BS, attention_mask=mask_BS).last_hidden_state
        return states


@final
class _Decoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._wrap = need("transformers.modeling_outputs", extra="text").BaseModelOutput

    def forward(self, written_BT: Tensor, states_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        said = self.model(
            decoder_input_ids=written_BT,
            encoder_outputs=self._wrap(last_hidden_state=states_BSD),
            attention_mask=mask_BS,
            use_cache=False,
        )
        logits_BV: Tensor = said.logits[:, -1]
        return logits_BV


@final
class OnnxTranslator:
    """Writes texts with the two files in a folder.

    Args:
        folder: that `export_translator` wrote.
        threads: of ONNX Runtime.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads

        def session(name: str) -> Any:  # noqa: ANN401  onnxruntime has no types
            return onnxruntime.InferenceSession(
                str(folder / name), options, providers=["CPUExecutionProvider"]
            )

        self._encoder, self._decoder = session(ENCODER), session(DECODER)

    def read(self, ids_BS: Whole, mask_BS: Whole) -> NDArray[np.float32]:
        """`[B, S, D]`, what the encoder makes of some texts."""
        given = {"input_ids": ids_BS, "attention_mask": mask_BS}
        (states_BSD,) = self._encoder.run(None, given)
        return np.asarray(states_BSD)

    def next(
        self, written_BT: Whole, states_BSD: NDArray[np.float32], mask_BS: Whole
    ) -> NDArray[np.float32]:
        """`[B, V]`, the logits of the token after what is written."""
        given = {
            "decoder_input_ids": written_BT,
            "encoder_hidden_states": states_BSD,
            "encoder_attention_mask": mask_BS,
        }
        (logits_BV,) = self._decoder.run(None, given)
        return np.asarray(logits_BV)

    def write(
        self, ids_BS: Whole, mask_BS: Whole, *, start: int, end: int, pad: int, longest: int
    ) -> Whole:
        """`[B, 1 + T]`, the likeliest token each time, as `generate` with one beam gives it.

        Args:
            ids_BS: tokens read.
            mask_BS: 1 where one stands.
            start: the token that begins what is written.
            end: the one that ends it.
            pad: what follows the end.
            longest: T at most.
        """
        states_BSD = self.read(ids_BS, mask_BS)
        written = np.full((len(ids_BS), 1), start, dtype=np.int64)
        is_done = np.zeros(len(ids_BS), dtype=bool)
        for _ in range(longest):
            chosen = self.next(written, states_BSD, mask_BS).argmax(-1).astype(np.int64)
            chosen[is_done] = pad
            written = np.concatenate([written, chosen[:, None]], axis=1)
            is_done |= chosen == end
            if is_done.all():
                break
        return written


def export_translator(model: nn.Module, folder: Path, planes_BPL: Tensor) -> Translated:
    """Write both files, read them back and compare the logits of every token of some texts.

    Args:
        model: a `models.encoder_decoder.TranslationModel`.
        folder: made if it is missing.
        planes_BPL: `[B, 4, L]`, at least two pairs of texts.

    Raises:
        ExportError: the model has no ONNX form, or the files answer otherwise.
        StorageError: the folder cannot be written to.
    """
    inner = cast("Any", model).model
    ids_BL, mask_BL, targets_BL, _ = planes_BPL.long().unbind(1)
    start = int(inner.config.decoder_start_token_id)
    with evaluating(inner), torch.no_grad():
        states_BLD = inner.get_encoder()(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
    read = {"input_ids": ids_BL[:2], "attention_mask": mask_BL[:2]}
    export_graph(
        _Encoder(inner),
        read,
        folder / ENCODER,
        output="encoder_hidden_states",
        description="int64 tokens [batch, length] and where they stand",
    )
    told = {
        "decoder_input_ids": shifted_right(targets_BL, start)[:2],
        "encoder_hidden_states": states_BLD[:2],
        "encoder_attention_mask": mask_BL[:2],
    }
    export_graph(
        _Decoder(inner),
        told,
        folder / DECODER,
        description="int64 tokens written so far [batch, written], what the encoder said, its mask",
    )
    return _compared(model, OnnxTranslator(folder), planes_BPL, start)


def _compared(
    model: nn.Module, files: OnnxTranslator, planes_BPL: Tensor, start: int
) -> Translated:
    """Prefix by prefix, with the model's own logits of all positions at once."""
    ids, mask, targets, there = (plane.long() for plane in planes_BPL.unbind(1))
    with evaluating(model), torch.no_grad():
        logits_BLV = model(planes_BPL)
    given = shifted_right(targets, start).numpy()
    states = files.read(ids.numpy(), mask.numpy())
    mine, theirs = [], []
    for length in range(1, int(there.sum(-1).max()) + 1):
        said = torch.from_numpy(files.next(given[:, :length], states, mask.numpy()))
        stands_B = there[:, length - 1] > 0
        mine.append(logits_BLV[stands_B, length - 1])
        theirs.append(said[stands_B])
    a, b = torch.cat(mine), torch.cat(theirs)
    scale = float((a.amax(-1) - a.mean(-1)).abs().mean().clamp_min(1e-6))
    relative = float((a - b).abs().max()) / scale
    if not relative <= BOUND:
        raise ExportError(
            f"The ONNX files answer otherwise by {relative:.2g} of the logits' range, more than "
            f"{BOUND:g}; leave `onnx` out of `export`, and report this with the model's type."
        )
    agreement = float((a.argmax(-1) == b.argmax(-1)).float().mean())
    return Translated(positions=len(a), relative=relative, bound=BOUND, agreement=agreement)
