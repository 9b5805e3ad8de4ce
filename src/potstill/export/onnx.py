"""Writing a student as one ONNX file: alone, in eval mode, float32, any batch size.

The normalisation of the inputs can be put in front, so that the file takes raw-scaled inputs.
"""

import io
import json
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import MappingProxyType

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from potstill import __version__
from potstill.errors import ExportError, StorageError
from potstill.export.naming import name_nodes
from potstill.export.shipped import Shipped, ShippedText
from potstill.runtime.modes import evaluating
from potstill.runtime.texts import NAMES

INPUT, OUTPUT, BATCH, LENGTH = "input", "logits", "batch", "length"
DEFAULT_OPSET = 20  # ONNX 1.15, ONNX Runtime 1.17 and later
SINGLE_FILE_LIMIT = 2**31 - 2**20  # protobuf ends at 2 GiB; larger weights lie beside the file


def export_onnx(
    model: nn.Module,
    sample_input: Tensor,
    path: Path,
    *,
    normalise: nn.Module | None = None,
    opset: int | None = None,
    labels: Sequence[str] | None = None,
    input_description: str = "",
    texts: bool = False,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write `normalise` followed by `model` to an ONNX file and return its path.

    The file has one input, `input` `[batch, ...]` (with `texts`, one for each plane of tokens,
    `input_ids` and so on, `[batch, length]`), and one output, `logits` `[batch, ...]`; its
    metadata say which version of Potstill wrote it, the labels and what the input means. It is
    checked by ONNX before it takes the place of an older one. The model is left as it was found:
    weights, device, precision, the training flag of every submodule.

    Args:
        model: the student alone; takes one tensor, returns a tensor (or a mapping with `logits`, or
            a tuple that starts with them).
        sample_input: `[B, ...]`, an example of what the file is given.
        path: where to write; folders are made. Beyond 2 GB the weights go to `<path>.data`.
        normalise: applied to the input first.
        opset: version of the operator set; `None` is 20.
        labels: names of the classes, in order.
        input_description: for people, for example "RGB image, 0..1".
        texts: the samples are planes of tokens `[B, P, L]`; `normalise` is not needed then.
        notes: further entries of the file's metadata.

    Raises:
        ExportError: an operator has no ONNX form, the answers depend on the data in a way that
            cannot be written down, or the model holds on to one batch size.
        StorageError: the file cannot be written.
    """
    opset = opset or DEFAULT_OPSET
    sample = example(sample_input)
    shipped = ShippedText(model) if texts else Shipped(model, normalise)
    given = tuple(p.contiguous() for p in sample.unbind(1)) if texts else (sample,)
    names = NAMES[: len(given)] if texts else (INPUT,)
    with evaluating(shipped), torch.no_grad(), _quiet():
        program = _trace(shipped, given, texts=texts)
        proto = _translate(program, given, names, opset)
    _tidy(proto)
    sizes = [LENGTH] if texts else map(str, sample.shape[1:])
    shape = f"[{', '.join([BATCH, *sizes])}]"
    entries = {
        "potstill_version": __version__,
        "input": f"{str(sample.dtype).removeprefix('torch.')} {shape} {input_description}".strip(),
        **notes,
    }
    if labels is not None:
        entries["labels"] = json.dumps(list(labels), ensure_ascii=False)
    onnx.helper.set_model_props(proto, entries)
    return _write(proto, path)


def export_graph(
    module: nn.Module,
    given: Mapping[str, Tensor],
    path: Path,
    *,
    output: str | tuple[str, ...] = OUTPUT,
    description: str = "",
    fixed: bool = False,
) -> Path:
    """Write a module of several inputs, all of any batch and any length, to an ONNX file.

    Args:
        module: takes the tensors in their order and returns one.
        given: an example of each input by its name, `[2, length, ...]`, on the CPU.
        path: where to write; folders are made.
        output: what the file calls its answer, or its answers.
        description: for people.
        fixed: all sizes are those of the examples.

    Raises:
        ExportError: an operator has no ONNX form, or the model holds on to one size.
        StorageError: the file cannot be written.
    """
    values = tuple(given.values())
    shapes = tuple({} if fixed else {0: Dim(BATCH), 1: Dim.DYNAMIC} for _ in values)
    with evaluating(module), torch.no_grad(), _quiet():
        program = captured(module, values, shapes)
        proto = _translate(program, values, list(given), DEFAULT_OPSET, output=output)
    _tidy(proto)
    entries = {"potstill_version": __version__, "input": description}
    onnx.helper.set_model_props(proto, entries)
    return _write(proto, path)


def example(sample: Tensor) -> Tensor:
    """Two rows on the CPU: with one, the batch would be taken for a constant."""
    rows = sample.detach()[:2].cpu()
    rows = rows.float() if rows.is_floating_point() else rows
    return torch.cat([rows, rows])[:2].clone(memory_format=torch.contiguous_format)


def _trace(shipped: nn.Module, given: tuple[Tensor, ...], *, texts: bool) -> ExportedProgram:
    sizes = {0: Dim(BATCH), 1: Dim.DYNAMIC} if texts else {0: Dim(BATCH)}
    shapes = tuple(sizes for _ in given)
    return captured(shipped, given, (shapes,) if texts else shapes)


def captured(
    shipped: nn.Module, given: tuple[Tensor, ...], shapes: tuple[object, ...]
) -> ExportedProgram:
    """The graph of a module, with the sizes that `shapes` leaves open.

    Raises:
        ExportError: the model holds on to one batch size, or does what no graph can say.
    """
    try:
        return torch.export.export(shipped, given, dynamic_shapes=shapes, strict=False)
    except ExportError:
        raise
    except Exception as error:  # torch.export lets through whatever the model raises
        text = str(error)
        if re.search(rf"specialized it to be a constant|Constraints violated \({BATCH}\)", text):
            raise ExportError(
                "The model works for one batch size only (a shape in its `forward` does not follow "
                "the input); write shapes with -1 or `x.shape[0]` and export again."
            ) from error
        line = next((one for one in text.splitlines() if one.strip()), type(error).__name__)
        where = re.search(r'File "([^"]+)", line (\d+), in forward', text)
        place = f" at {Path(where[1]).name}:{where[2]}" if where else ""
        raise ExportError(
            f"The model cannot be captured as a graph{place}: {line.strip()[:300]} "
            "Keep Python `if`s on tensor values and changes of attributes out of `forward`."
        ) from error


def _translate(
    program: ExportedProgram,
    given: tuple[Tensor, ...],
    names: Sequence[str],
    opset: int,
    *,
    output: str | tuple[str, ...] = OUTPUT,
) -> onnx.ModelProto:
    try:
        translated = torch.onnx.export(
            program,
            given,
            dynamo=True,
            input_names=list(names),
            output_names=[output] if isinstance(output, str) else list(output),
            opset_version=opset,
            verbose=False,
        )
    except Exception as error:  # the exporter's own exceptions are private to torch
        raise _untranslatable(program, error) from error
    if translated is None:
        raise ExportError("torch.onnx wrote nothing; update torch and onnxscript and try again.")
    proto: onnx.ModelProto = translated.model_proto
    found = {entry.domain: entry.version for entry in proto.opset_import}.get("")
    if found != opset:
        raise ExportError(
            f"Opset {opset} was asked for and torch wrote opset {found}; leave `opset` out, or "
            f"give {DEFAULT_OPSET} or one near it."
        )
    return proto


def _untranslatable(program: ExportedProgram, error: BaseException) -> ExportError:
    """An error that names the operator and, where it can be found, the layer."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__
    found = re.search(r"OpOverload\(op='([\w.]+)'", "\n".join(chain))
    if found is None:
        reason = chain[-1].strip().splitlines() or ["no reason given"]
        return ExportError(
            f"torch.onnx cannot write the model ({reason[0][:300]}); try another `opset`, or "
            "replace the layer that it names."
        )
    layer = layer_using(program, found[1])
    return ExportError(
        f"ONNX has no form of the operator {found[1]}"
        + (f", used in layer '{layer}'" if layer else "")
        + "; replace it by other operators, or ship the student in another format."
    )


def layer_using(program: ExportedProgram, operator: str) -> str | None:
    """The innermost module whose forward uses an operator, by its name in the model."""
    for node in program.run_decompositions().graph.nodes:
        if node.op == "call_function" and str(node.target).startswith(operator):
            stack = node.meta.get("nn_module_stack") or {}
            paths = [str(path) for path, _ in stack.values()]
            return paths[-1].removeprefix("model.") if paths else None
    return None


def _tidy(proto: onnx.ModelProto) -> None:
    """Name the batch and drop the exporter's notes: they hold paths of this machine."""
    graph = proto.graph
    graph.name = "student"
    name_nodes(graph)
    del graph.value_info[:]
    first = graph.input[0].type.tensor_type.shape.dim
    names = {size.dim_param: name for size, name in zip(first, (BATCH, LENGTH), strict=False)}
    for value in (*graph.input, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = names.get(size.dim_param, size.dim_param)
    graphs = [graph, *proto.functions]
    while graphs:
        part = graphs.pop()
        noted = [part, *part.node]
        if isinstance(part, onnx.GraphProto):
            noted += [*part.input, *part.output, *part.value_info, *part.initializer]
        for item in noted:
            del item.metadata_props[:]
            item.doc_string = ""
        graphs += [a.g for node in part.node for a in node.attribute if a.HasField("g")]


def _write(proto: onnx.ModelProto, path: Path) -> Path:
    """Check, write beside, rename."""
    is_large = proto.ByteSize() > SINGLE_FILE_LIMIT
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            draft = Path(folder) / path.name
            onnx.save_model(
                proto,
                str(draft),
                save_as_external_data=is_large,
                location=f"{path.name}.data" if is_large else None,
            )
            onnx.checker.check_model(str(draft), full_check=True)
            for written in sorted(Path(folder).iterdir(), reverse=True):  # the weights first
                written.replace(path.parent / written.name)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}); make room, or choose a folder "
            "that you may write to."
        ) from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"The exported graph is not valid ONNX ({str(error).strip().splitlines()[0][:300]}); "
            "try another `opset`."
        ) from error
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch and onnxscript print, log and warn while they work."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
