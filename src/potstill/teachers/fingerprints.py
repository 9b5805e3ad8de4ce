"""Digests of what a teacher's answers depend on."""

import functools
import hashlib
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, MethodType

import numpy as np
import torch
from torch import Tensor, nn


def digest(parts: Iterable[bytes | str]) -> str:
    """Hex SHA-256 of the parts, each with its length, so that no two lists collide."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


def module_digest(module: nn.Module) -> str:
    """Digest of a module's class, and of every parameter and buffer by name, type and bytes."""
    return digest(_module_parts(module))


def _module_parts(module: nn.Module) -> Iterable[bytes | str]:
    yield f"{type(module).__module__}.{type(module).__qualname__}"
    for name, tensor in sorted(module.state_dict().items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}"
        yield bytes_of(tensor)


def bytes_of(tensor: Tensor) -> bytes:
    """A tensor's values as they lie in memory, row by row."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def array_digest(array: np.ndarray) -> str:
    """Digest of an array's type, shape and bytes."""
    return digest([f"{array.dtype} {array.shape}", np.ascontiguousarray(array).tobytes()])


def estimator_digest(estimator: object) -> str:
    """Digest of an estimator's class, settings and fitted state, the same once it was pickled."""
    # joblib comes with scikit-learn; plain pickles differ in which equal texts they share
    import joblib  # type: ignore[import-untyped]

    return digest([type(estimator).__qualname__, str(joblib.hash(estimator, hash_name="sha1"))])


def function_digest(function: Callable[..., object]) -> str:
    """Digest of a function's code, defaults and captured values; not of globals that it reads."""
    return digest(_parts_of(function))


def _parts_of(value: object) -> Iterable[bytes | str]:
    yield type(value).__qualname__
    match value:
        case FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            yield value.__qualname__
            for part in (value.__code__, value.__defaults__, value.__kwdefaults__, cells):
                yield digest(_parts_of(part))
        case CodeType():
            yield value.co_code
            yield " ".join(value.co_names)
            yield digest(_parts_of(value.co_consts))
        case functools.partial():
            yield digest(_parts_of((value.func, value.args, value.keywords)))
        case MethodType():
            yield digest(_parts_of((value.__func__, value.__self__)))
        case nn.Module():
            yield module_digest(value)
        case Tensor():
            yield f"{value.dtype} {tuple(value.shape)}"
            yield bytes_of(value)
        case np.ndarray():
            yield array_digest(value)
        case tuple() | list():
            yield from (digest(_parts_of(part)) for part in value)
        case dict():
            yield from (digest(_parts_of(item)) for item in value.items())
        case None | bool() | int() | float() | complex() | str() | bytes() | frozenset():
            yield repr(value)
        case _:  # its address would be another in every process: what it holds, or just its class
            yield digest(_parts_of(getattr(value, "__dict__", None)))
