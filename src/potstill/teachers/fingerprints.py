"""Digests of what a teacher's answers depend on."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn


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
        flat = tensor.detach().cpu().contiguous().flatten()
        yield flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def array_digest(array: np.ndarray) -> str:
    """Digest of an array's type, shape and bytes."""
    return digest([f"{array.dtype} {array.shape}", np.ascontiguousarray(array).tobytes()])
