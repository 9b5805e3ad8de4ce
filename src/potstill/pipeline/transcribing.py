"""Models that write down what they hear: their files, and sounds to time them on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from potstill.export.transcriber import export_transcriber
from potstill.pipeline.filing import write_each
from potstill.pipeline.workshop import Workshop
from potstill.runtime.texts import MASK


def write_transcribers(
    shop: Workshop, modules: Mapping[str, nn.Module], folder: Path
) -> tuple[dict[str, Path], dict[str, object]]:
    """An ONNX file of each model, and how each answers beside it."""
    data = shop.experiment.data

    def write(module: nn.Module, path: Path) -> object:
        return export_transcriber(
            module,
            path,
            data.test.inputs,
            letters=data.classes or (),
            scale=data.normalise.scale,
        )

    return write_each(shop, modules, folder, write)


def middling(planes_N2L: NDArray[np.floating]) -> NDArray[np.floating]:
    """`[N, L]`, waves of the sounds that are as long as the middle one or longer, cut to it."""
    lengths_N = planes_N2L[:, MASK].sum(-1)
    middle = int(np.sort(lengths_N)[len(lengths_N) // 2])
    found: NDArray[np.floating] = planes_N2L[lengths_N >= middle, 0, :middle]
    return found
