"""What torchao's graphs get wrong about batch norms, put right."""

import torch
from torch import nn
from torch.fx import GraphModule, Node

from potstill.errors import ModelError

_NORM = torch.ops.aten.batch_norm.default
_ADD, _COUNT = torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor
_MOMENTUM, _EPS = 6, 7  # places among the operator's arguments


def keep_norms(graph: GraphModule, model: nn.Module) -> None:
    """Give batch norms their own ε and momentum back: torchao writes its defaults instead.

    They no longer count batches, which is for those without momentum, and would be done in
    evaluation too.
    """
    for node in list(graph.graph.nodes):
        if node.target is _COUNT and str(node.args[0]).endswith("num_batches_tracked"):
            graph.graph.erase_node(node)
            continue
        if node.target is _NORM:
            norm = _norm_of(node.args[3], model)
            node.update_arg(_MOMENTUM, norm.momentum)
            node.update_arg(_EPS, norm.eps)
        elif node.target is _ADD and _is_variance(node.args[0]):
            node.update_arg(1, _norm_of(node.args[0], model).eps)
    graph.recompile()


def _norm_of(buffer: Node, model: nn.Module) -> nn.BatchNorm2d:
    norm = model.get_submodule(str(buffer.target).rpartition(".")[0])
    if getattr(norm, "momentum", None) is None:
        raise ModelError(
            "A batch norm of the model averages over all batches (`momentum=None`), which has no "
            "8-bit form; give it a momentum."
        )
    return norm  # type: ignore[return-value]


def _is_variance(node: object) -> bool:
    return (
        isinstance(node, Node)
        and node.op == "get_attr"
        and str(node.target).endswith(".running_var")
    )
