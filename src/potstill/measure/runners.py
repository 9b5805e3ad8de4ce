"""Models opened on the runtime that they are shipped on: ONNX Runtime, ExecuTorch, torch.

Nothing is imported before a model of its kind is opened, so that what one runtime needs of memory
and time is not counted for another, and ONNX files are measured where torch is not installed.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

from potstill.errors import ExportError, ModelError, RecipeError, need
from potstill.measure.latency import Runner, Samples, onnx_runner
from potstill.runtime.texts import are_texts

ONNX, EXECUTORCH, TORCH = "onnxruntime", "executorch", "torch"
RUNTIMES = (ONNX, EXECUTORCH, TORCH)
_SUFFIXES = {".onnx": ONNX, ".pte": EXECUTORCH}


def runtime_of(path: Path) -> str:
    """What runs a file or folder, by its name.

    Raises:
        ExportError: nothing that Potstill measures does.
    """
    if path.is_dir() and (path / "model.safetensors").is_file():
        return TORCH
    found = _SUFFIXES.get(path.suffix)
    if found is None:
        raise ExportError(
            f"{path} is no model that can be measured; give an .onnx or a .pte file, or a folder "
            "with model.safetensors and config.json."
        )
    return found


def open_runner(path: Path, runtime: str, *, threads: int = 1, trust: bool = False) -> Runner:
    """A model that is ready to be timed, on the CPU.

    Args:
        path: as `runtime_of` takes it.
        runtime: one of `RUNTIMES`.
        threads: inside one call. Of ExecuTorch and torch they are those of the whole process, so
            runners that are timed together share their number; ExecuTorch's is settled by the first
            runner of a process.
        trust: let a model that is Python code of the user's run (torch alone).

    Raises:
        ExportError: the file is missing or broken.
        ModelError: the folder cannot be read.
        MissingExtra: the runtime is not installed.
        RecipeError: there is no such runtime.
    """
    if runtime == ONNX:
        return onnx_runner(path, threads=threads)
    if runtime == EXECUTORCH:
        return _executorch_runner(path, threads=threads)
    if runtime == TORCH:
        return _torch_runner(path, threads=threads, trust=trust)
    raise RecipeError(f"{runtime!r} is no runtime; choose among {', '.join(RUNTIMES)}.")


def check_installed(runtime: str) -> None:
    """Raise `MissingExtra` for a runtime that is not there; nothing is imported."""
    if find_spec({ONNX: "onnxruntime", EXECUTORCH: "executorch", TORCH: "torch"}[runtime]) is None:
        need("executorch" if runtime == EXECUTORCH else runtime, extra="executorch")


def prepare(runtime: str) -> None:
    """Import what a runtime needs, and nothing else."""
    if runtime == EXECUTORCH:
        _executorch()
    elif runtime == TORCH:
        import_module("potstill.models")
    else:
        import_module("onnxruntime")


def _executorch() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return need("executorch.runtime", extra="executorch")


def _executorch_runner(path: Path, *, threads: int) -> Runner:
    module = _executorch()
    from importlib.metadata import version

    import torch

    if not path.is_file():
        raise ExportError(f"{path} cannot be timed, there is no such file; export the model first.")
    pool = need("executorch.extension.pybindings.portable_lib", extra="executorch")
    if pool._threadpool_get_thread_count() != threads:  # not while a program is there
        pool._unsafe_reset_threadpool(threads)
    try:
        method = module.Runtime.get().load_program(path).load_method("forward")
    except Exception as error:  # ExecuTorch raises plain runtime errors
        raise ExportError(
            f"ExecuTorch {version('executorch')} cannot run {path} ({_first_line(error)}); export "
            "it again with the version that is installed."
        ) from error

    def call(batch: Samples) -> object:
        planes = [*np.moveaxis(batch, 1, 0)] if are_texts(batch) else [batch]
        return method.execute([torch.from_numpy(np.ascontiguousarray(each)) for each in planes])

    return Runner(call=call, engine=EXECUTORCH, version=version("executorch"))


def _torch_runner(path: Path, *, threads: int, trust: bool) -> Runner:
    import torch

    from potstill.models import load_model

    if not path.is_dir():
        raise ModelError(
            f"{path} is no folder; torch runs a folder with model.safetensors and config.json."
        )
    module, _ = load_model(path, trust=trust)
    module.eval()

    def call(batch: Samples) -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return module(torch.from_numpy(batch))

    return Runner(call=call, engine=TORCH, version=str(torch.__version__))


def answering(call: Callable[[Samples], object], path: Path, batch: Samples) -> object:
    """One answer, or a sentence that says which model cannot take what.

    Raises:
        ExportError: the model refuses the batch.
    """
    try:
        return call(batch)
    except Exception as error:  # runtimes have no common root of their exceptions
        shape = " × ".join(map(str, batch.shape))
        raise ExportError(
            f"{path} cannot answer {len(batch)} samples at once ({_first_line(error)}); the input "
            f"was {shape}, {batch.dtype}. Leave that batch out, or give samples with --inputs."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
