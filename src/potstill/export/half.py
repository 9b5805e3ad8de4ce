"""Files in 16 bits: an ONNX file with half of its bytes, float32 at its borders."""

from pathlib import Path

import onnx

from potstill.errors import ExportError
from potstill.export.naming import NORMALISE, layer_of
from potstill.runtime.fast.quiet import quietly
from potstill.runtime.files import write_with

_LARGEST = 1e4
"""Larger constants (the minus infinity of attention masks) are cut to this, which sums bear."""


def halve_onnx(source: Path, target: Path) -> Path:
    """Write a float32 ONNX file in float16; inputs, their normalisation and outputs stay float32.

    On processors without float16 arithmetic the file is smaller and not faster.

    Args:
        source: written by `export_onnx`.
        target: an older file is replaced.

    Raises:
        ExportError: an operator of the file has no float16 form.
        StorageError: the file cannot be written.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    proto = onnx.load(str(source))
    entries = {entry.key: entry.value for entry in proto.metadata_props} | {"precision": "float16"}
    layers = dict.fromkeys(layer_of(node.name) for node in proto.graph.node)
    raw = [node.name for node in proto.graph.node if layer_of(node.name) == NORMALISE]
    try:
        with quietly():
            halved = convert_float_to_float16(
                proto, keep_io_types=True, max_finite_val=_LARGEST, node_block_list=raw
            )
            OnnxModel(halved).topological_sort()
            _straighten(halved.graph)
            onnx.checker.check_model(halved)
    except Exception as error:  # the converter has no root of exceptions
        named = next((layer for layer in layers if f"{layer}/" in str(error)), "")
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ExportError(
            f"The file cannot be written in float16{f' (layer {named!r})' if named else ''}: "
            f"{line}; ship `onnx` or `onnx-int8`."
        ) from error
    onnx.helper.set_model_props(halved, entries)
    write_with(target, lambda draft: onnx.save_model(halved, str(draft)))
    return target


def _straighten(graph: onnx.GraphProto) -> None:
    """Leave out casts to float16 and back, in which raw values beyond 65504 would be lost."""
    makers = {name: node for node in graph.node for name in node.output}
    kept = {value.name for value in graph.output}
    for node in graph.node:
        first = makers.get(node.input[0]) if _casts(node, onnx.TensorProto.FLOAT) else None
        if first is None or not _casts(first, onnx.TensorProto.FLOAT16):
            continue
        if node.output[0] in kept:
            continue
        for other in graph.node:
            for place, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[place] = first.input[0]
    while True:
        used = {name for node in graph.node for name in node.input} | kept
        idle = [n for n in graph.node if n.op_type == "Cast" and n.output[0] not in used]
        if not idle:
            return
        for node in idle:
            graph.node.remove(node)


def _casts(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == kind for a in node.attribute)
