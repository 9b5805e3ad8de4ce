"""Artefacts opened in the runtime they are for, all called alike."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from potstill.errors import ExportError, PotstillError, need
from potstill.models.single import read_safetensors
from potstill.runtime.fast.quiet import quietly
from potstill.runtime.texts import are_texts, fed

Rows = NDArray[np.generic]
Answers = NDArray[np.float32]


@final
@dataclass(frozen=True, kw_only=True)
class Opened:
    """A file and its runtime.

    Args:
        answer: from rows `[B, ...]` (of texts planes `[B, P, L]`) to the first output.
        engine: the runtime's name.
        version: of the runtime.
        normalises: whether it takes raw values; weights alone do not.
    """

    answer: Callable[[Rows], Answers]
    engine: str
    version: str
    normalises: bool = True


def open_artefact(path: Path, *, trust: bool = False) -> Opened:
    """Open a `.onnx`, `.pte`, `.pt2` or `.safetensors` file in its runtime, on the CPU.

    Raises:
        ExportError: the file is missing, of another kind, or its runtime refuses it.
        MissingExtra: the runtime is not installed.
    """
    if not path.is_file():
        raise ExportError(f"{path} does not exist; export the model before comparing it.")
    match path.suffix:
        case ".onnx":
            return _onnx(path)
        case ".pte":
            return _executorch(path)
        case ".pt2":
            return _program(path)
        case ".safetensors":
            return _weights(path, trust=trust)
    raise ExportError(
        f"{path} is no artefact of Potstill; give a .onnx, .pte, .pt2 or .safetensors file."
    )


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime on the CPU that says nothing below an error.

    Raises:
        ExportError: the file is missing or cannot be loaded.
    """
    if not path.is_file():
        raise ExportError(f"{path} does not exist; export the model before comparing it.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has no public root of its exceptions
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path} "
            f"({_line(error)}); export it again with a lower `opset`."
        ) from error


def _onnx(path: Path) -> Opened:
    session = open_session(path)
    names = [given.name for given in session.get_inputs()]
    return Opened(
        answer=lambda rows: session.run(None, fed(names, rows))[0],
        engine="onnxruntime",
        version=onnxruntime.__version__,
    )


def _executorch(path: Path) -> Opened:
    with quietly():
        runtime = need("executorch.runtime", extra="executorch")
    try:
        with _native_silence():
            program = runtime.Runtime.get().load_program(str(path))
            method = program.load_method("forward")
    except Exception as error:  # its runtime has no root of exceptions
        raise ExportError(
            f"ExecuTorch cannot load {path} ({_line(error)}); export it again."
        ) from error

    def answer(rows: Rows) -> Answers:
        said = method.execute(_planes(rows))
        return cast("Answers", said[0].numpy().copy())

    return Opened(answer=answer, engine="executorch", version=version("executorch"))


@contextmanager
def _native_silence() -> Iterator[None]:
    """Nothing that native code writes to the error stream: notes about the processor."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _program(path: Path) -> Opened:
    try:
        with quietly(), tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name  # torch keeps the file open as long as it likes
            shutil.copyfile(path, copy)
            module = torch.export.load(str(copy)).module()
    except Exception as error:  # torch lets through what zip files and JSON raise
        raise ExportError(
            f"torch.export cannot load {path} ({_line(error)}); export it again."
        ) from error
    return Opened(answer=_asked(module), engine="torch", version=torch.__version__)


def _weights(path: Path, *, trust: bool) -> Opened:
    try:
        module = read_safetensors(path, trust=trust)
    except PotstillError as error:
        raise ExportError(str(error)) from error

    def answer(rows: Rows) -> Answers:
        with torch.no_grad():
            said = module(torch.from_numpy(np.ascontiguousarray(rows)))
        return cast("Answers", (said["logits"] if isinstance(said, dict) else said).numpy())

    return Opened(answer=answer, engine="torch", version=torch.__version__, normalises=False)


def _asked(module: Any) -> Callable[[Rows], Answers]:  # noqa: ANN401  a graph module of torch
    def answer(rows: Rows) -> Answers:
        with torch.no_grad():
            return cast("Answers", module(*_planes(rows)).numpy())

    return answer


def _planes(rows: Rows) -> list[torch.Tensor]:
    """One tensor, or of texts one a plane."""
    given = torch.from_numpy(np.ascontiguousarray(rows))
    return [p.contiguous() for p in given.unbind(1)] if are_texts(rows) else [given]


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
