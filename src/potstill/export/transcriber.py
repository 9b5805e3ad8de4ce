"""CTC models as an ONNX file: waves of any length in, letters frame by frame out.

The file has one input, `input` `[batch, length]`, waves in units of int16, and one output,
`logits` `[batch, frames, letters]`; its metadata name the letters. Sounds of one call have one
length: what pads a shorter one would be heard as silence.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import ExportError
from potstill.export.onnx import INPUT, export_graph
from potstill.export.opened import open_session
from potstill.export.parity import SMALLEST_SCALE
from potstill.runtime.modes import evaluating

BOUND = 1e-4
"""Relative difference that the file's logits may have."""

ROWS = 32
"""Sounds that are compared."""


class Transcribed(TypedDict):
    """How the file answers beside the model, one sound at a time."""

    rows: int
    relative: float
    bound: float
    agreement: float


@final
class _Shipped(nn.Module):
    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, wave_BL: Tensor) -> Tensor:
        samples_B = torch.full_like(wave_BL[:, 0], wave_BL.shape[1], dtype=torch.int64)
        logits_BTV: Tensor = self.model.answer(wave_BL / self.scale, samples_B)  # type: ignore[operator]
        return logits_BTV


def export_transcriber(
    model: nn.Module, path: Path, planes_B2L: Tensor, *, letters: Sequence[str], scale: float
) -> Transcribed:
    """Write the file, and compare its letters with the model's, each sound in its own length.

    Args:
        model: a `models.transcribing.Transcriber`, float32 on the CPU.
        path: of the file.
        planes_B2L: sounds as they lie in the data: the wave, and 1 where it stands.
        letters: the blank, then each letter.
        scale: what a wave is divided by first, 32768 for int16.

    Raises:
        ExportError: the model has no ONNX form, or the file answers otherwise.
        StorageError: the file cannot be written.
    """
    waves = alone(planes_B2L[:ROWS].float())
    longest = max(waves, key=len)
    shipped = _Shipped(model, scale)
    export_graph(
        shipped,
        {INPUT: torch.stack([longest, longest])},
        path,
        description="float32 [batch, length], waves in units of int16",
    )
    proto = onnx.load(str(path))
    onnx.helper.set_model_props(
        proto,
        {
            **{entry.key: entry.value for entry in proto.metadata_props},
            "labels": json.dumps(list(letters), ensure_ascii=False),
        },
    )
    onnx.save_model(proto, str(path))
    return _compared(shipped, path, waves)


def alone(planes_B2L: Tensor) -> list[Tensor]:
    """The waves `[L]`, each without what pads it."""
    return [planes[0, : int(planes[1].sum())] for planes in planes_B2L]


def _compared(shipped: nn.Module, path: Path, waves: Sequence[Tensor]) -> Transcribed:
    session = open_session(path)
    worst, scale, same, frames = 0.0, SMALLEST_SCALE, 0, 0
    with evaluating(shipped), torch.no_grad():
        for wave in waves:
            (answer,) = session.run(None, {INPUT: wave[None].numpy()})
            said: NDArray[np.float32] = np.asarray(answer)
            expected = shipped(wave[None]).numpy()
            if said.shape != expected.shape:
                raise ExportError(f"{path} answers {said.shape} and the model {expected.shape}.")
            worst = max(worst, float(np.abs(said - expected).max()))
            scale = max(scale, float(np.abs(expected).max()))
            same += int((said.argmax(-1) == expected.argmax(-1)).sum())
            frames += said.shape[1]
    if not worst / scale <= BOUND:
        raise ExportError(
            f"{path} answers otherwise by {worst / scale:.2g} of the logits' scale, more than "
            f"{BOUND:g}; do not ship it, and report this with the model's name."
        )
    return Transcribed(
        rows=len(waves), relative=worst / scale, bound=BOUND, agreement=same / max(1, frames)
    )
