"""Batch norms folded into their convolutions, numbers as runtimes want them: a graph made final.

torchao does the folding too, by matching patterns that are traced anew each time, for half a
minute. Here each batch norm is followed back to its convolution.
"""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

_NORM = torch.ops.aten.batch_norm.default
_ADD, _DIV, _MUL = (getattr(torch.ops.aten, n).Tensor for n in ("add", "div", "mul"))
_RESHAPE = torch.ops.aten.reshape.default
_CONVS = frozenset(
    {torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default, torch.ops.aten.conv3d.default}
)
_INT32 = 2**31 - 1


def fold_norms(graph: GraphModule) -> None:
    """Replace each `conv(w·f) / f, + b, batch norm` by one convolution with `f = γ / sqrt(σ² + ε)`.

    Its weight is `w·f`, which is what lies on the grid, its bias `(b - μ)·f + β`. Batch norms that
    follow no convolution stay.
    """
    for norm in [node for node in graph.graph.nodes if node.target is _NORM]:
        if (found := _convolution(norm)) is not None:
            _fold(graph, norm, *found)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _convolution(norm: Node) -> tuple[Node, Node, Node | None] | None:
    """The convolution behind a norm, the product that is its weight, and its bias."""
    before, bias = norm.args[0], None
    assert isinstance(before, Node), "a batch norm's input is computed"
    if before.target is _ADD and _is_reshape(before.args[1]):
        before, bias = before.args[0], before.args[1].args[0]  # type: ignore[union-attr]
    if not (isinstance(before, Node) and before.target is _DIV and _is_reshape(before.args[1])):
        return None
    conv = before.args[0]
    if not (isinstance(conv, Node) and conv.target in _CONVS):
        return None
    grid = conv.args[1]
    assert isinstance(grid, Node), "a convolution has a weight"
    product = grid.args[0] if grid.op == "call_module" else grid
    if not (isinstance(product, Node) and product.target is _MUL):
        return None
    return conv, product, bias  # type: ignore[return-value]


def _fold(graph: GraphModule, norm: Node, conv: Node, product: Node, bias: Node | None) -> None:
    gamma, beta, mean, variance = (_value(graph, part) for part in norm.args[1:5])
    factor = gamma / torch.sqrt(variance + float(norm.args[7]))  # type: ignore[arg-type]
    weight = _value(graph, product.args[0])
    start = torch.zeros_like(mean) if bias is None else _value(graph, bias)
    name = str(product.args[0].target).replace(".", "_")  # type: ignore[union-attr]
    with graph.graph.inserting_before(product):
        shape = (-1, *(1 for _ in weight.shape[1:]))
        folded = _constant(graph, f"{name}_folded", weight * factor.reshape(shape))
    with graph.graph.inserting_before(conv):
        shift = _constant(graph, f"{name}_bias", (start - mean) * factor + beta)
    product.replace_all_uses_with(folded)
    rest = conv.args[3:]
    conv.args = (conv.args[0], conv.args[1], shift, *rest)
    norm.replace_all_uses_with(conv)


def whole_biases(graph: GraphModule) -> None:
    """Put the biases of layers in int8 on the grid of their sums: int32, scale `s_x · s_w`.

    Integer kernels add them to sums of products, so runtimes want them in this form.
    """
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or len(node.args) < 3 or not _is_attr(node.args[2]):
            continue
        scale_x, scale_w = (_scale(graph, part) for part in node.args[:2])
        if scale_x is None or scale_w is None:
            continue
        bias = _value(graph, node.args[2])
        scale = (scale_x * scale_w).expand(bias.shape).contiguous()
        whole = (bias / scale).round().clamp(-_INT32, _INT32).to(torch.int32)
        name = str(node.args[2].target).replace(".", "_")
        with graph.graph.inserting_before(node):
            parts = [
                _constant(graph, f"{name}_{what}", value)
                for what, value in (
                    ("int32", whole),
                    ("scale", scale),
                    ("zero", torch.zeros_like(whole)),
                )
            ]
            operator = torch.ops.quantized_decomposed.dequantize_per_channel.default
            put = graph.graph.call_function(operator, (*parts, 0, -_INT32, _INT32, torch.int32))
        node.update_arg(2, put)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def unsigned_activations(graph: GraphModule) -> None:
    """Write int8 activations as uint8: the same values, each number and zero point 128 higher.

    On x86 the integer kernels take unsigned activations; ONNX Runtime changes signed ones itself,
    but only where one operator reads them, and leaves the others in float.
    """
    for node in graph.graph.nodes:
        if "quantize_per_tensor" in str(node.target) and node.args[5] is torch.int8:
            value, scale, zero, low, high = node.args[:5]
            shifted = (value, scale, zero + 128, low + 128, high + 128, torch.uint8)
            node.args = (*shifted, *node.args[6:])
    graph.recompile()


def _scale(graph: GraphModule, node: object) -> Tensor | None:
    """Of a dequantised value."""
    if not (isinstance(node, Node) and "dequantize_per_" in str(node.target)):
        return None
    scale = node.args[1]
    return torch.tensor(scale) if isinstance(scale, float) else _value(graph, scale)


def _is_reshape(node: object) -> bool:
    return isinstance(node, Node) and node.target is _RESHAPE


def _is_attr(node: object) -> bool:
    return isinstance(node, Node) and node.op == "get_attr"


def _value(graph: GraphModule, node: object) -> Tensor:
    assert isinstance(node, Node), "a tensor of the graph"
    owner, _, name = str(node.target).rpartition(".")
    value: Tensor = getattr(graph.get_submodule(owner), name).detach()
    return value


def _constant(graph: GraphModule, name: str, value: Tensor) -> Node:
    while hasattr(graph, name):
        name += "_"
    if value.is_floating_point():
        graph.register_parameter(name, nn.Parameter(value, requires_grad=False))
    else:
        graph.register_buffer(name, value)
    return graph.graph.get_attr(name)
