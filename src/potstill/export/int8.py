"""Files in 8 bits: weights and activations of an ONNX file, with ranges seen on real samples.

What is written holds QuantizeLinear and DequantizeLinear around every operator (QDQ), the form that
ONNX Runtime turns into integer kernels and that other runtimes read.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from potstill.errors import DataError, ExportError
from potstill.export.naming import NORMALISE, layer_of
from potstill.runtime.fast.quiet import quietly
from potstill.runtime.files import storing
from potstill.runtime.texts import are_texts, fed, trimmed

BATCH = 16
WEIGHTED = ("Conv", "ConvTranspose", "Gather", "Gemm", "MatMul")
"""Operators that carry weights: what `layers_of` names, and all that texts' files quantise."""

KEPT = ("Attention", "LayerNormalization", "Softmax", "ReduceMean", "ReduceSum", "Log", "Pow")
"""Operators that stay in float: they add over many values, or their range has no end."""


class Calibration(StrEnum):
    """How the range of an activation is chosen from what was seen."""

    MINMAX = "minmax"  # all of it
    ENTROPY = "entropy"  # least divergence of the histogram; slow
    PERCENTILE = "percentile"  # all but the outermost 0.001 %


_METHODS = {
    Calibration.MINMAX: CalibrationMethod.MinMax,
    Calibration.ENTROPY: CalibrationMethod.Entropy,
    Calibration.PERCENTILE: CalibrationMethod.Percentile,
}


def quantise_onnx(
    source: Path,
    target: Path,
    rows: NDArray[np.generic],
    *,
    skip: Sequence[str] = (),
    calibration: Calibration | str = Calibration.MINMAX,
    narrow: bool = False,
) -> Path:
    """Write an ONNX file in 8 bits: int8 weights a channel, uint8 activations a tensor.

    Files of texts keep everything but their matrix products and tables in float32, since layer
    norms and softmaxes in 8 bits cost accuracy and save nothing.

    Args:
        source: a float32 file that Potstill wrote, or any with inputs named as its are.
        target: where to write; an older file is replaced.
        rows: `[N, ...]`, real samples as the file takes them (training rows; some hundred suffice).
        skip: layers that stay in float32, by the names that `layers_of` gives; a name stands for
            all layers below it too (`blocks.0`).
        calibration: see `Calibration`.
        narrow: weights in 7 bits, for processors without VNNI, whose 16-bit sums overflow.

    Returns:
        `target`.

    Raises:
        DataError: there are no rows.
        ExportError: a layer of `skip` does not exist, or ONNX Runtime cannot quantise the file.
        StorageError: the file cannot be written.
    """
    if len(rows) == 0:
        raise DataError("Quantising needs samples to see ranges on, got none; pass training rows.")
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            prepared, draft = Path(folder) / "prepared.onnx", Path(folder) / "draft.onnx"
            _prepare(source, prepared)
            kept = _nodes_below(prepared, skip)
            _quantise(prepared, draft, rows, kept, Calibration(calibration), narrow=narrow)
            _copy_notes(source, draft)
            draft.replace(target)
    return target


def layers_of(path: Path) -> list[str]:
    """Names of the layers of a file that `quantise_onnx` would quantise, in the file's order."""
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    found = (
        layer_of(node.name)
        for node in graph.node
        if node.op_type in WEIGHTED and any(name in weights for name in node.input)
    )
    return list(dict.fromkeys(found))


def _prepare(source: Path, prepared: Path) -> None:
    """Shapes and folded constants, which ONNX Runtime asks for before quantising."""
    try:
        with quietly():
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
    except Exception:  # noqa: BLE001  it has no root of exceptions; the plain file will do
        shutil.copyfile(source, prepared)


def _nodes_below(path: Path, skip: Sequence[str]) -> list[str]:
    names = [node.name for node in onnx.load(str(path), load_external_data=False).graph.node]
    kept: list[str] = []
    for layer in skip:
        below = [n for n in names if n == layer or n.startswith((f"{layer}/", f"{layer}."))]
        if not below:
            known = ", ".join(layers_of(path)[:20])
            raise ExportError(f"The file has no layer '{layer}' to skip; it has: {known}.")
        kept += below
    return kept


def _quantise(
    prepared: Path,
    draft: Path,
    rows: NDArray[np.generic],
    kept: Sequence[str],
    calibration: Calibration,
    *,
    narrow: bool,
) -> None:
    graph = onnx.load(str(prepared), load_external_data=False).graph
    floats = [
        node.name for node in graph.node if node.op_type in KEPT or layer_of(node.name) == NORMALISE
    ]
    try:
        with quietly():
            quantize_static(
                prepared,
                draft,
                _Rows([given.name for given in graph.input], rows),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(WEIGHTED) if are_texts(rows) else None,
                per_channel=True,
                reduce_range=narrow,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[*kept, *floats],
                calibrate_method=_METHODS[calibration],
                calibration_providers=["CPUExecutionProvider"],
                extra_options={"MatMulConstBOnly": True},
            )
    except Exception as error:  # ONNX Runtime has no public root of its exceptions
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"ONNX Runtime cannot quantise the file ({line[:300]}); ship `onnx-fp16`, or keep the "
            "layer that it names in float32."
        ) from error


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Batches of the rows, each text batch cut to its own length."""

    def __init__(self, names: list[str], rows: NDArray[np.generic]) -> None:
        self._batches = _batches(names, rows)

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        return next(self._batches, None)


def _batches(
    names: list[str], rows: NDArray[np.generic]
) -> Iterator[dict[str, NDArray[np.generic]]]:
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        yield fed(names, trimmed(part) if are_texts(part) else part)


def _copy_notes(source: Path, draft: Path) -> None:
    """The metadata of the file it was made of; `precision` says what this one is."""
    proto = cast("onnx.ModelProto", onnx.load(str(draft)))
    notes = onnx.load(str(source), load_external_data=False).metadata_props
    entries = {entry.key: entry.value for entry in notes} | {"precision": "int8"}
    onnx.helper.set_model_props(proto, entries)
    onnx.save_model(proto, str(draft))
