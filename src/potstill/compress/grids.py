"""Where a prepared graph has its grids, and which layer they belong to."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn
from torch.fx import GraphModule, Node

from potstill.errors import need

_POOL = torch.ops.aten.adaptive_avg_pool2d.default
_WEIGHTED = frozenset({"linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d"})


def grids(graph: GraphModule) -> dict[str, nn.Module]:
    """All grids of a prepared graph by the name of their node."""
    found = need("torchao.quantization.pt2e", extra="compress")
    return {
        str(node.target): part
        for node in graph.graph.nodes
        if node.op == "call_module"
        and isinstance(part := graph.get_submodule(str(node.target)), found.FakeQuantizeBase)
    }


def layers(graph: GraphModule) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Of each layer with a quantised weight: the grid of its weight, those of its activations.

    Activations are what goes in and what comes out (behind its batch norm and activation).
    """
    known = grids(graph)
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for node in graph.graph.nodes:
        if _kind(node) in _WEIGHTED and (weight := _grid(node.args[1], known)) is not None:
            name = layer_of(node)
            around = [_grid(node.args[0], known), *_after(node, known)]
            found[name] = (weight, tuple(g for g in around if g is not None))
    return found


def own_means(graph: GraphModule) -> None:
    """Give what comes out of an average over places a grid of its own.

    The quantiser lets it share the grid of what goes in, whose values are many times as large.
    """
    known = grids(graph)
    for node in [n for n in graph.graph.nodes if n.target is _POOL]:
        into, own = _grid(node.args[0], known), None
        for name in _after(node, known, through=True):
            if into is not None and known[name] is known[into]:
                own = own or deepcopy(known[into])
                graph.set_submodule(name, own)


def layer_of(node: Node) -> str:
    """The innermost module whose forward made a node; empty for what no module made."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _kind(node: Node) -> str:
    return str(node.target).partition(".")[2].partition(".")[0]


def _grid(node: object, known: dict[str, nn.Module]) -> str | None:
    is_grid = isinstance(node, Node) and str(node.target) in known
    return str(node.target) if isinstance(node, Node) and is_grid else None


def _after(node: Node, known: dict[str, nn.Module], *, through: bool = False) -> Iterator[str]:
    """The first grids behind a node; all up to the next layer with `through`."""
    for user in node.users:
        if (name := _grid(user, known)) is not None:
            yield name
        if (name is None or through) and _kind(user) not in _WEIGHTED:
            yield from _after(user, known, through=through)
