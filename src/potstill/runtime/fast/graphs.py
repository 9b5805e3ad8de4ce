"""Ways to run a frozen model outside PyTorch, on the CPU: ONNX Runtime and OpenVINO, 32 or 8 bits.

The 8-bit graphs are static QDQ graphs: ranges of activations from real batches, weights with one
scale a channel. Both runtimes read the same graph.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.export import Dim

from potstill.errors import need
from potstill.runtime.fast.choosing import Prior
from potstill.runtime.fast.engines import Engine, Subject, folded
from potstill.runtime.fast.machine import Machine

INPUT, OUTPUT, BATCH = "input", "logits", "batch"
OPSET = 20
CALIBRATION_ROWS = 256

Runner = Callable[[np.ndarray], np.ndarray]
Opener = Callable[[bytes], Runner]


@final
class Graph:
    """An ONNX graph, with 8 bits if asked; each is made when it is first needed.

    Args:
        make: gives the graph in 32 bits.
        samples: real batches `[B, ...]` as the graph takes them, to calibrate on.
        full_range: the processor adds up products of 8-bit numbers without overflow.
    """

    def __init__(
        self, make: Callable[[], bytes], samples: Sequence[Tensor], *, full_range: bool
    ) -> None:
        self._make, self._samples, self._full_range = make, samples, full_range
        self._made: dict[str, bytes] = {}

    def plain(self) -> bytes:
        """In 32 bits."""
        if "plain" not in self._made:
            self._made["plain"] = self._make()
        return self._made["plain"]

    def int8(self) -> bytes:
        """Activations and weights in 8 bits, calibrated."""
        if "int8" not in self._made:
            self._made["int8"] = self._quantised(static=True)
        return self._made["int8"]

    def int8_weights(self) -> bytes:
        """Weights in 8 bits, activations quantised as they come (for linear layers)."""
        if "dynamic" not in self._made:
            self._made["dynamic"] = self._quantised(static=False)
        return self._made["dynamic"]

    def _quantised(self, *, static: bool) -> bytes:
        with tempfile.TemporaryDirectory(prefix="potstill-") as name:
            folder = Path(name)
            source, tidy, result = (folder / f"{n}.onnx" for n in ("source", "tidy", "result"))
            source.write_bytes(self.plain())
            quant_pre_process(source, tidy, skip_symbolic_shape=True)
            narrow = not self._full_range
            if static:
                keep = _sensitive(onnx.load(tidy).graph)
                feed = _Samples(self._samples, _input_name(self.plain()))
                quantize_static(
                    tidy, result, feed,
                    quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=narrow,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    nodes_to_exclude=keep,
                )  # fmt: skip
            else:
                quantize_dynamic(
                    tidy, result, per_channel=True, reduce_range=narrow,
                    weight_type=QuantType.QInt8,
                )  # fmt: skip
            return result.read_bytes()


@final
class _Samples(CalibrationDataReader):  # type: ignore[misc]  # the base has no types
    """Batches of real inputs, up to `CALIBRATION_ROWS` rows."""

    def __init__(self, samples: Sequence[Tensor], name: str) -> None:
        self._name = name
        self._left = self._arrays(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch."""
        return next(self._left, None)

    def _arrays(self, samples: Sequence[Tensor]) -> Iterator[dict[str, np.ndarray]]:
        rows = 0
        for sample in samples:
            if rows >= CALIBRATION_ROWS:
                return
            rows += len(sample)
            yield {self._name: as_array(sample)}


def graph_of(subject: Subject) -> Graph:
    """The graph of a module."""
    return Graph(
        lambda: _exported(folded(subject), subject.samples[0]),
        subject.samples,
        full_range=subject.machine.int8,
    )


def graph_engines(subject: Subject) -> list[Engine]:
    """The ways of ONNX Runtime and OpenVINO to run a module; none on an accelerator."""
    if subject.machine.device != "cpu":
        return []
    graph = graph_of(subject)
    export = 2.0 + 0.06 * subject.num_leaves
    return [
        Engine(name=way.name, prior=Prior(export + way.seconds, way.speedup),
               make=way.module(graph, subject.machine))
        for way in ways(subject.machine, convolutions=subject.has_convolutions)
    ]  # fmt: skip


@final
class Way:
    """A runtime with the graph that it is given.

    Args:
        name: short.
        speedup: what it may bring over float32 in PyTorch.
        seconds: to prepare it, beyond the export.
        graph: which graph it takes.
        opener: opens the graph with some number of threads.
    """

    def __init__(
        self,
        name: str,
        *,
        speedup: float,
        seconds: float,
        graph: Callable[[Graph], bytes],
        opener: Callable[[bytes, int], Runner],
    ) -> None:
        self.name, self.speedup, self.seconds = name, speedup, seconds
        self._graph, self._opener = graph, opener

    def runner(self, graph: Graph, machine: Machine) -> Runner:
        """The graph, opened."""
        return self._opener(self._graph(graph), machine.threads)

    def module(self, graph: Graph, machine: Machine) -> Callable[[], nn.Module]:
        """What makes the opened graph look like a module."""
        return lambda: GraphModule(self.runner(graph, machine))


def ways(machine: Machine, *, convolutions: bool) -> list[Way]:
    """All ways to run a graph on this processor, fit for the model or not."""
    eight = 6.0 if machine.int8 else 2.0
    half = 3.5 if machine.bf16 else 0.6
    made = [
        Way("onnxruntime", speedup=1.6, seconds=0.5, graph=Graph.plain, opener=open_onnxruntime),
        Way("openvino", speedup=1.6, seconds=0.5, graph=Graph.plain, opener=_open_ov("f32")),
        Way("openvino bf16", speedup=half, seconds=0.5, graph=Graph.plain,
            opener=_open_ov("bf16")),
        Way("onnxruntime int8", speedup=eight, seconds=6.0, graph=Graph.int8,
            opener=open_onnxruntime),
        Way("openvino int8", speedup=1.1 * eight, seconds=6.5, graph=Graph.int8,
            opener=_open_ov("f32")),
    ]  # fmt: skip
    if not convolutions:
        made.append(
            Way("onnxruntime int8 weights", speedup=0.5 * eight, seconds=1.5,
                graph=Graph.int8_weights, opener=open_onnxruntime)
        )  # fmt: skip
    return made


@final
class GraphModule(nn.Module):
    """An opened graph, called like the module it came from."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` to float32 `[B, C]`."""
        return torch.from_numpy(self._runner(as_array(inputs))).float()


def as_array(inputs: Tensor) -> np.ndarray:
    """A tensor's values, in the order that runtimes expect."""
    return inputs.detach().cpu().contiguous().numpy()


def open_onnxruntime(graph: bytes, threads: int) -> Runner:
    """A session whose threads sleep between calls: the student needs the cores meanwhile."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(inputs: np.ndarray) -> np.ndarray:
        answers: np.ndarray = session.run(None, {name: inputs})[0]
        return answers

    return run


def _open_ov(precision: str) -> Callable[[bytes, int], Runner]:
    def opener(graph: bytes, threads: int) -> Runner:
        openvino = need("openvino", extra="fast")
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(graph, b""),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": threads,
            },
        )
        request = compiled.create_infer_request()

        def run(inputs: np.ndarray) -> np.ndarray:
            answers = request.infer({0: inputs}, share_inputs=True, share_outputs=True)[0]
            return np.array(answers)  # the request writes into the same memory next time

        return run

    return opener


def _exported(module: nn.Module, sample: Tensor) -> bytes:
    with torch.no_grad():
        program = torch.export.export(
            module, (sample[:2].cpu(),), dynamic_shapes=({0: Dim(BATCH)},), strict=False
        )
        made = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT],
            verbose=False, optimize=True,
        )  # fmt: skip
    assert made is not None, "the exporter gives a program"
    return bytes(made.model_proto.SerializeToString())


def _sensitive(graph: onnx.GraphProto) -> list[str]:
    """The first and the last product of a graph: little work, and most of what 8 bits distort."""
    products = [node.name for node in graph.node if node.op_type in _PRODUCTS]
    return [] if len(products) < 4 else [products[0], products[-1]]  # else too little is left


_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})


def _input_name(graph: bytes) -> str:
    return str(onnx.load_from_string(graph).graph.input[0].name)
