"""Programs of torch: `.pt2` files of torch.export, `.pte` files of ExecuTorch with XNNPACK."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from potstill.errors import ExportError, need
from potstill.export.onnx import BATCH, captured, example, layer_using
from potstill.export.shipped import Shipped, ShippedText
from potstill.runtime.fast.quiet import quietly
from potstill.runtime.files import write_with
from potstill.runtime.modes import evaluating

MOST_ROWS = 64
"""ExecuTorch plans its memory ahead: a call takes at most as many rows."""


def export_program(
    model: nn.Module,
    sample_input: Tensor,
    path: Path,
    *,
    normalise: nn.Module | None = None,
    texts: bool = False,
) -> Path:
    """Write `normalise` followed by `model` as a `.pt2` file, which `torch.export.load` opens.

    Args:
        model: as for `export_onnx`.
        sample_input: `[B, ...]`.
        path: an older file is replaced.
        normalise: applied to the input first.
        texts: the samples are planes of tokens `[B, P, L]`, each an input of its own.

    Raises:
        ExportError: the model cannot be captured as a graph.
        StorageError: the file cannot be written.
    """
    program = _traced(model, sample_input, normalise, texts=texts, most_rows=None)
    write_with(path, lambda draft: _save(program, draft))
    return path


def export_executorch(
    model: nn.Module,
    sample_input: Tensor,
    path: Path,
    *,
    normalise: nn.Module | None = None,
    texts: bool = False,
) -> Path:
    """Write a `.pte` file: what XNNPACK knows is given to it, the rest to portable kernels.

    It takes 1 to 64 rows a call, of texts up to as many tokens as the sample has.

    Args:
        model: as for `export_onnx`.
        sample_input: `[B, ...]`.
        path: an older file is replaced.
        normalise: applied to the input first.
        texts: the samples are planes of tokens `[B, P, L]`, each an input of its own.

    Raises:
        ExportError: an operator has no kernel; the layer is named.
        MissingExtra: ExecuTorch is not installed.
        StorageError: the file cannot be written.
    """
    with quietly():
        exir = need("executorch.exir", extra="executorch")
        xnnpack = need(
            "executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="executorch"
        )
    program = _traced(model, sample_input, normalise, texts=texts, most_rows=MOST_ROWS)
    try:
        with _any_batch():
            made = exir.to_edge_transform_and_lower(
                program, partitioner=[xnnpack.XnnpackPartitioner()]
            ).to_executorch()
    except Exception as error:  # ExecuTorch has no root of exceptions
        raise _without_kernel(program, error) from error
    write_with(path, lambda draft: _write_bytes(draft, made.buffer))
    return path


def _traced(
    model: nn.Module,
    sample: Tensor,
    normalise: nn.Module | None,
    *,
    texts: bool,
    most_rows: int | None,
) -> ExportedProgram:
    shipped = ShippedText(model) if texts else Shipped(model, normalise)
    rows = example(sample)
    given = tuple(p.contiguous() for p in rows.unbind(1)) if texts else (rows,)
    batch = Dim(BATCH) if most_rows is None else Dim(BATCH, min=1, max=most_rows)
    sizes: dict[int, object] = {0: batch}
    if texts:
        sizes[1] = Dim.DYNAMIC if most_rows is None else Dim("length", min=2, max=rows.shape[-1])
    shapes = tuple(sizes for _ in given)
    with evaluating(shipped), _any_batch():
        return captured(shipped, given, (shapes,) if texts else shapes)


@contextmanager
def _any_batch() -> Iterator[None]:
    """Silence, and nothing by which torch would choose kernels by the number of rows.

    Gradients, oneDNN and NNPACK are off: their choices become limits of the graph (a convolution
    of fewer than 16 rows).
    """
    nnpack, mkldnn = torch.backends.nnpack, torch.backends.mkldnn
    with quietly(), torch.no_grad(), mkldnn.flags(enabled=False), nnpack.flags(enabled=False):
        yield


def _save(program: ExportedProgram, path: Path) -> None:
    with path.open("wb") as file, quietly():
        torch.export.save(program, cast("Any", file))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _without_kernel(program: ExportedProgram, error: Exception) -> ExportError:
    text = str(error)
    found = re.search(r"Operator:? (?:torch\._ops\.|<EdgeOpOverload: )(aten\.\w+)", text)
    found = found or re.search(r"Missing out variants: \{'(aten::\w+)", text)
    if found is None:
        line = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        return ExportError(
            f"ExecuTorch cannot write the model ({line.strip()[:300]}); ship it as `onnx`."
        )
    operator = found[1].replace("::", ".")
    layer = layer_using(program, operator)
    return ExportError(
        f"ExecuTorch has no kernel for the operator {operator}"
        + (f", used in layer '{layer}'" if layer else "")
        + "; replace it by other operators, or ship the student as `onnx`."
    )
