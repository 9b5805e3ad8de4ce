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
from dataclasses import replace
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from potstill.compress.folding import fold_norms, unsigned_activations, whole_biases
from potstill.compress.grids import layer_of, own_means
from potstill.compress.repairs import keep_norms
from potstill.errors import ModelError, need

_NORM = torch.ops.aten.batch_norm.default
_DROPOUT = torch.ops.aten.dropout.default
_NORM_TRAINS, _DROPOUT_TRAINS = 5, 2  # places among the operators' arguments
_SMALLEST = 2.0**-20  # scale; the quantiser's own 2**-12 is too coarse for folded weights


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
    keep_norms(graph, model)
    own_means(graph)
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
        quantiser.set_filter_function(lambda node: not _is_below(layer_of(node), skip))
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


def _is_below(layer: str, above: Sequence[str]) -> bool:
    return any(layer == one or layer.startswith(f"{one}.") for one in above)
