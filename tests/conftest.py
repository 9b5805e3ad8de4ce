"""What every test stands on: no network, one thread a process, Chromium where there is one."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Set before any test module imports a library that reads them.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_MODE": "offline",
}
for _name, _value in {**_OFFLINE, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}.items():
    os.environ.setdefault(_name, _value)

# Speeds that a test measures are not remembered for the user's own runs; what uv has fetched for
# them is used: an environment of a test would cost gigabytes again.
_USERS_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("UV_CACHE_DIR", str(_USERS_CACHE / "uv"))
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="potstill-tests-")

_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MOST_WORKERS = 8  # each one loads torch


def find_chromium() -> str | None:
    """The path of a Chromium on the PATH, if there is one."""
    return next((path for name in _CHROMIUM_NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium; the test is skipped where there is none."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on the PATH")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no core idles at the end; no `browser` without one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if find_chromium() is not None:
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason="no Chromium on the PATH"))


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one worker a core that this process may really use."""
    return max(1, min(_usable_cores(), _MOST_WORKERS))


def _usable_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = Path("/sys/fs/cgroup/cpu.max")  # a container's share, "max 100000" without a limit
    if limit.is_file():
        quota, _, period = limit.read_text().partition(" ")
        if quota.isdigit() and int(period) > 0:
            return min(cores or 1, -(-int(quota) // int(period)))
    return cores or 1
