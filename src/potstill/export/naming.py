"""The nodes of an exported graph, named after the layers they come from: `layer1.0.conv1/Conv`."""

import ast
from collections import Counter

import onnx

SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes the modules that a node lies in, outermost first."""

INSIDE = "model."
"""What `Shipped` puts before every name of the student's."""

NORMALISE = "normalise"
"""The layer that stands before the student; raw values are not fit for fewer bits."""


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name that says its layer and its operator; names stay unique.

    Call it while the exporter's notes are there. A convolution into which a batch norm was folded
    is known by its weight.
    """
    weights = {tensor.name for tensor in graph.initializer}
    counted: Counter[str] = Counter()
    for node in graph.node:
        name = f"{_layer(node, weights)}/{node.op_type}".removeprefix("/")
        counted[name] += 1
        node.name = name if counted[name] == 1 else f"{name}_{counted[name] - 1}"


def layer_of(node: str) -> str:
    """The layer in a node's name; the whole name if it has none."""
    return node.rpartition("/")[0] or node


def _layer(node: onnx.NodeProto, weights: set[str]) -> str:
    for name in node.input:
        if name in weights and name.endswith((".weight", ".weight_bias", ".weight_scaled")):
            return str(name).removeprefix(INSIDE).rpartition(".")[0]
    notes = {entry.key: entry.value for entry in node.metadata_props}
    try:
        scopes = ast.literal_eval(notes.get(SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return ""
    return str(scopes[-2]).removeprefix(INSIDE) if len(scopes) > 1 else ""
