"""Language models over two processes: means are over the tokens of both, as in one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from . import two_processes


def _here(path: Path) -> dict[str, torch.Tensor]:
    two_processes.main(path, 1)
    return torch.load(path, weights_only=True)


def _by_two(path: Path) -> dict[str, torch.Tensor]:
    clean = {k: v for k, v in os.environ.items() if k not in {"LOCAL_RANK", "NODE_RANK"}}
    done = subprocess.run(
        [sys.executable, two_processes.__file__, path, "2"],
        env=clean,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path, weights_only=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_give_the_weights_of_one(tmp_path) -> None:
    one, two = _here(tmp_path / "one.pt"), _by_two(tmp_path / "two.pt")

    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)
