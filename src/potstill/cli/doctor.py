"""`potstill doctor`: what this installation can do."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from potstill.cli.screen import amount, show_table

EXTRAS = {
    "vision": ("timm", "torchvision"),
    "text": ("transformers",),
    "data": ("datasets",),
    "trees": ("xgboost", "lightgbm"),
    "energy": ("codecarbon",),
    "track": ("tensorboard", "mlflow", "wandb"),
}


def doctor() -> None:
    """Say what is installed, which devices there are, and what is missing."""
    import torch

    from potstill.runtime.environment import describe_environment

    about = describe_environment()
    packages = about["packages"]
    assert isinstance(packages, dict), "as `describe_environment` made it"
    rows = [["", ""]]
    rows += [[name, str(about[name])] for name in ("potstill", "python", "platform", "processor")]
    rows += [["cores", f"{about['cores']} ({about['threads']} torch threads)"]]
    rows += [["torch", f"{packages.get('torch')} ({_devices(torch.cuda.is_available())})"]]
    free = shutil.disk_usage(Path.cwd()).free
    rows += [["free disk here", amount(free, "B")]]
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if find_spec(m) is None]
        state = "ready" if not missing else f"missing {', '.join(missing)}"
        hint = f"  →  pip install 'potstill[{extra}]'" if missing else ""
        rows += [[f"extra {extra}", state + hint]]
    show_table(rows)


def _devices(has_cuda: bool) -> str:
    import torch

    if has_cuda:
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "mps" if torch.backends.mps.is_available() else "cpu"
