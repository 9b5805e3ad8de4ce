"""What this machine can do well, as far as it decides which ways are worth trying."""

import functools
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

import potstill

_PACKAGES = ("torch", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A processor, or an accelerator, with what is installed for it.

    Args:
        name: of the processor or accelerator.
        device: `cpu`, `cuda`, `mps`.
        threads: of torch's operators.
        bf16: multiplies bfloat16 faster than float32.
        int8: has dot products of 8-bit numbers (VNNI, AMX, or the ones of ARM).
        compiler: a C++ compiler is there (or the accelerator's own).
        packages: versions of what runs models; changes make a remembered choice void.
    """

    name: str
    device: str
    threads: int
    bf16: bool
    int8: bool
    compiler: bool
    packages: tuple[str, ...]

    @classmethod
    def here(cls, device: torch.device | str = "cpu") -> "Machine":
        """The machine that this process runs on."""
        kind = torch.device(device).type
        flags = _flags()
        on_gpu = kind == "cuda"
        return cls(
            name=torch.cuda.get_device_name(device) if on_gpu else _processor(),
            device=kind,
            threads=torch.get_num_threads(),
            bf16=torch.cuda.is_bf16_supported() if on_gpu else _any(flags, _BF16),
            int8=_any(flags, _INT8),
            compiler=on_gpu or any(shutil.which(name) for name in ("c++", "g++", "clang++")),
            packages=_versions(),
        )

    @property
    def key(self) -> str:
        """All that a measured time depends on, but for the model."""
        version = f"potstill {potstill.__version__}"
        return "; ".join(
            [version, self.name, self.device, f"{self.threads} threads", *self.packages]
        )


_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def _any(flags: frozenset[str], wanted: frozenset[str]) -> bool:
    return not flags.isdisjoint(wanted)


@functools.cache
def _flags() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    for line in info.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def _processor() -> str:
    from potstill.runtime.environment import processor_name

    return processor_name() or platform.machine()


@functools.cache
def _versions() -> tuple[str, ...]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)
