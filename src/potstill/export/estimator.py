"""Fitted estimators as ONNX files: the same answers in the same runtime as a student's.

skl2onnx translates what scikit-learn has; its own rounding of thresholds to float32 is what the
comparison allows for.
"""

from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from potstill import __version__
from potstill.errors import ExportError, need
from potstill.export.onnx import BATCH, INPUT, OUTPUT
from potstill.export.opened import open_artefact
from potstill.runtime.fast.quiet import quietly
from potstill.runtime.files import write_with

OPSET, ML_OPSET = 20, 3
PROBABILITIES = "probabilities"
AGREEMENT = 0.999


def export_estimator(
    estimator: object, rows_NF: NDArray[np.float32], path: Path, *, kind: str
) -> dict[str, object]:
    """Write a fitted estimator with one input, `input` `[batch, F]`, and compare its answers.

    The output is called `logits`, as a student's, and holds the logarithm of the probabilities
    `[batch, C]`, or of a regression the values `[batch, O]`.

    Args:
        estimator: of scikit-learn, fitted.
        rows_NF: real rows as it takes them, to be compared on.
        path: an older file is replaced.
        kind: `single_label` or `regression`.

    Returns:
        Rows, largest difference (of probabilities, or of values relative to the largest), share of
        equal decisions, engine.

    Raises:
        ExportError: the estimator has no ONNX form, or the file decides otherwise.
        MissingExtra: skl2onnx is not installed.
    """
    if kind not in ("single_label", "regression"):
        raise ExportError(
            f"Estimators of {kind} targets are not written as ONNX files; they are timed as they "
            "are."
        )
    proto = _translated(estimator, rows_NF.shape[1], kind)
    onnx.helper.set_model_props(proto, {"potstill_version": __version__})
    write_with(path, lambda draft: onnx.save_model(proto, str(draft)))
    try:
        return _compared(estimator, rows_NF, path, kind)
    except ExportError:
        path.unlink(missing_ok=True)
        raise


def _translated(estimator: object, width: int, kind: str) -> onnx.ModelProto:
    skl2onnx = need("skl2onnx", extra="trees")
    types = need("skl2onnx.common.data_types", extra="trees")
    options = {} if kind == "regression" else {id(estimator): {"zipmap": False}}
    try:
        with quietly():
            made = skl2onnx.convert_sklearn(
                estimator,
                initial_types=[(INPUT, types.FloatTensorType([None, width]))],
                target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
                options=options,
            )
    except Exception as error:  # skl2onnx has no root of exceptions
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        line = shorten(first, 80, placeholder=" …")
        raise ExportError(
            f"skl2onnx has no ONNX form of {type(estimator).__name__} ({line}); it is timed as it "
            "is."
        ) from error
    proto = cast("onnx.ModelProto", made)
    graph = proto.graph
    said = graph.output[-1].name
    kept = graph.output[-1]
    if kind == "single_label":
        graph.node.append(onnx.helper.make_node("Clip", [said, "floor"], ["clipped"], name="clip"))
        graph.node.append(onnx.helper.make_node("Log", ["clipped"], [OUTPUT], name="log"))
        graph.initializer.append(onnx.helper.make_tensor("floor", 1, [], [1e-7]))
    else:
        graph.node.append(onnx.helper.make_node("Identity", [said], [OUTPUT], name="values"))
    del graph.output[:]
    kept.name = OUTPUT
    graph.output.append(kept)
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = BATCH
    return proto


def _compared(
    estimator: object, rows_NF: NDArray[np.float32], path: Path, kind: str
) -> dict[str, object]:
    opened, fitted = open_artefact(path), cast("Any", estimator)
    said = opened.answer(rows_NF)
    if kind == "regression":
        expected = np.asarray(fitted.predict(rows_NF)).reshape(len(rows_NF), -1)
        difference = float(np.abs(said - expected).max() / max(1e-3, np.abs(expected).max()))
        agreement = 1.0 if difference <= 1e-3 else 0.0
    else:
        expected = np.asarray(fitted.predict_proba(rows_NF))
        difference = float(np.abs(np.exp(said) - expected).max())
        agreement = float(np.mean(said.argmax(1) == expected.argmax(1)))
    if agreement < AGREEMENT:
        raise ExportError(
            f"The ONNX file of {type(estimator).__name__} answers otherwise ({agreement:.2%} of "
            f"{len(rows_NF)} decisions are the same); it is timed as it is."
        )
    return {
        "rows": len(rows_NF),
        "max_difference": difference,
        "agreement": None if kind == "regression" else agreement,
        "engine": opened.engine,
        "version": opened.version,
    }
