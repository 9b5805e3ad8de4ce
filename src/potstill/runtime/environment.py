"""What a run ran on: versions, hardware, git revision."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import potstill

_PACKAGES = (
    "torch", "lightning-fabric", "torchmetrics", "numpy", "scikit-learn", "onnx", "onnxruntime",
    "timm", "torchvision", "transformers", "datasets", "xgboost", "lightgbm", "codecarbon",
)  # fmt: skip


def describe_environment() -> dict[str, object]:
    """Values for `environment.json`."""
    import torch  # what a machine is called is asked where there is no torch

    return {
        "potstill": potstill.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "packages": installed(),
        "git_revision": git_revision(),
    }


def installed() -> dict[str, str]:
    """Versions of the libraries that matter and are there."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor_name() -> str:
    """The processor's model, as the operating system calls it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_revision() -> str | None:
    """The commit of the folder that the command runs in, with `+` if files have changed."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, timeout=5, check=True
    )
    return done.stdout.strip()
