"""The one door to PT2E: graphs whose weights and activations pass through an 8-bit grid.

torchao inserts the grids (`FakeQuantize`), ExecuTorch's XNNPACK quantiser says where: int8 weights
from -127 to 127, symmetric; int8 activations with a zero point, one scale a tensor. What is trained
is thus what XNNPACK and ONNX Runtime compute.

Method: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv:1712.05877, with batch norms folded as in its section 3.2.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from potstill.compress.folding import fold_norms, unsigned_activations, whole_biases
from potstill.errors import ModelError, need

_NORM = torch.ops.aten.batch_norm.default
_POOL = torch.ops.aten.adaptive_avg_pool2d.default
_DROPOUT = torch.ops.aten.dropout.default
_ADD, _COUNT = torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor
_NORM_TRAINS, _NORM_MOMENTUM, _NORM_EPS = 5, 6, 7  # places among the operator's arguments
_DROPOUT_TRAINS = 2
_SMALLEST = 2.0**-20  # scale; the quantiser's own 2**-12 is too coarse for folded weights
_WEIGHTED = frozenset({"linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d"})


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what torchao and ExecuTorch warn of at import and at work."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def prepare(
    model: nn.Module, example: Tensor, *, per_channel: bool, skip: Sequence[str]
) -> GraphModule:
    """A graph of the model with a grid on every weight and activation that XNNPACK quantises.

    Parameters and buffers keep their names, and are those of `model`.

    Args:
        model: takes one tensor.
        example: `[B, ...]`; two rows or more, so that the batch is not taken for a constant.
        per_channel: one scale for each output channel of a weight, not one a tensor.
        skip: layers that stay in float, with all below them.

    Raises:
        MissingExtra: torchao or ExecuTorch is not installed.
        ModelError: the model cannot be captured as a graph, or has nothing to quantise.
    """
    missing = [layer for layer in skip if layer not in dict(model.named_modules())]
    if missing:
        raise ModelError(
            f"The model has no layer {missing[0]!r} to keep in float; give names of its modules."
        )
    with quiet():
        steps = need("torchao.quantization.pt2e.quantize_pt2e", extra="compress")
        quantiser = _quantiser(per_channel, skip)
        graph: GraphModule = steps.prepare_qat_pt2e(_captured(model, example), quantiser)
    _keep_norms(graph, model)
    _own_means(graph)
    return graph


class Kernels(StrEnum):
    """Whose integer kernels a graph is written for."""

    ONNX_RUNTIME = "onnxruntime"  # activations in uint8, biases in int32
    XNNPACK = "xnnpack"  # activations in int8, biases in float32


def convert(graph: GraphModule, *, kernels: Kernels) -> GraphModule:
    """The same graph with weights in int8, batch norms folded, (de)quantising as operators.

    The argument is used up.
    """
    fold_norms(graph)
    with quiet():
        steps = need("torchao.quantization.pt2e.quantize_pt2e", extra="compress")
        converted: GraphModule = steps.convert_pt2e(graph)
    if kernels is Kernels.ONNX_RUNTIME:
        whole_biases(converted)
        unsigned_activations(converted)
    return converted


def set_mode(graph: GraphModule, *, norms: bool, dropout: bool) -> None:
    """Say whether batch norms use and learn the statistics of the batch, and dropouts drop.

    Equivalent to `train` and `eval` of the modules that the graph was made of, which a graph has
    no more.
    """
    changed = False
    for node in graph.graph.nodes:
        place, value = (_NORM_TRAINS, norms) if node.target is _NORM else (_DROPOUT_TRAINS, dropout)
        if node.target in (_NORM, _DROPOUT) and node.args[place] is not value:
            node.update_arg(place, value)
            changed = True
    if changed:
        graph.recompile()


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
            name = _layer(node)
            around = [_grid(node.args[0], known), *_after(node, known)]
            found[name] = (weight, tuple(g for g in around if g is not None))
    return found


def _quantiser(per_channel: bool, skip: Sequence[str]) -> object:
    module = need("executorch.backends.xnnpack.quantizer.xnnpack_quantizer", extra="compress")
    config = module.get_symmetric_quantization_config(is_qat=True, is_per_channel=per_channel)
    config = replace(
        config,
        input_activation=_exact(config.input_activation, "MovingAverageMinMaxObserver"),
        output_activation=_exact(config.output_activation, "MovingAverageMinMaxObserver"),
        weight=_exact(
            config.weight,
            f"MovingAverage{'PerChannel' if per_channel else ''}MinMaxObserver",
        ),
    )
    quantiser = module.XNNPACKQuantizer().set_global(config)
    if skip:
        quantiser.set_filter_function(lambda node: not _is_below(_layer(node), skip))
    return quantiser


def _exact(spec: object, observer: str) -> object:
    """The same grid, rounded by the scale that conversion takes; ranges are those of now.

    The fused kernel that the quantiser names reckons symmetric scales by 255/254 wider.
    """
    found = need("torchao.quantization.pt2e", extra="compress")
    grid = found.FakeQuantize.with_args(
        observer=getattr(found, observer), averaging_constant=1.0, eps=_SMALLEST
    )
    return replace(spec, observer_or_fake_quant_ctr=grid)  # type: ignore[type-var]


def _captured(model: nn.Module, example: Tensor) -> GraphModule:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    flags = [(part, part.training) for part in model.modules()]
    model.train()  # batch norms are folded only where they are captured in training
    try:
        program = torch.export.export(model, (example,), dynamic_shapes=shapes)
        graph = program.module()
    except Exception as error:  # torch.export lets through whatever the model raises
        line = next((one for one in str(error).splitlines() if one.strip()), type(error).__name__)
        raise ModelError(
            "The model cannot be captured as a graph for training in 8 bits "
            f"({line.strip()[:300]}); quantise the exported file after training instead."
        ) from error
    finally:
        for part, is_training in flags:
            part.training = is_training
    assert isinstance(graph, GraphModule), "torch.export gives a graph"
    return graph


def _keep_norms(graph: GraphModule, model: nn.Module) -> None:
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
            node.update_arg(_NORM_MOMENTUM, norm.momentum)
            node.update_arg(_NORM_EPS, norm.eps)
        elif node.target is _ADD and _is_variance(node.args[0]):
            node.update_arg(1, _norm_of(node.args[0], model).eps)
    graph.recompile()


def _own_means(graph: GraphModule) -> None:
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


def _kind(node: Node) -> str:
    return str(node.target).partition(".")[2].partition(".")[0]


def _layer(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _is_below(layer: str, above: Sequence[str]) -> bool:
    return any(layer == one or layer.startswith(f"{one}.") for one in above)


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
