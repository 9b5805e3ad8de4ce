"""Models that write down what they hear: their files, and sounds to time them on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from potstill.errors import ExportError
from potstill.export.transcriber import export_transcriber
from potstill.pipeline.workshop import Workshop
from potstill.runtime.files import write_json
from potstill.runtime.texts import MASK


def write_transcribers(
    shop: Workshop, modules: Mapping[str, nn.Module], folder: Path
) -> tuple[dict[str, Path], dict[str, object]]:
    """An ONNX file of each model, and how each answers beside it."""
    data = shop.experiment.data
    written: dict[str, Path] = {}
    parity: dict[str, object] = {}
    for role, module in modules.items():
        path = folder / f"{role}.onnx"
        shop.progress.note(f"exporting {role} to {path}")
        try:
            parity[role] = export_transcriber(
                module,
                path,
                data.test.inputs,
                letters=data.classes or (),
                scale=data.normalise.scale,
            )
        except ExportError as error:
            path.unlink(missing_ok=True)
            if role != "teacher":
                raise
            shop.warn(f"The teacher was not exported: {error}")
            continue
        written[role] = path
    write_json(folder / "parity.json", {"models": parity})
    return written, parity


def middling(planes_N2L: NDArray[np.floating]) -> NDArray[np.floating]:
    """`[N, L]`, waves of the sounds that are as long as the middle one or longer, cut to it."""
    lengths_N = planes_N2L[:, MASK].sum(-1)
    middle = int(np.sort(lengths_N)[len(lengths_N) // 2])
    found: NDArray[np.floating] = planes_N2L[lengths_N >= middle, 0, :middle]
    return found
