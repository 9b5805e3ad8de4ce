"""Language models over two processes: means are over the tokens of both, as in one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_SCRIPT = Path(__file__).with_name("two_processes.py")


def _weights(path: Path, devices: int) -> dict[str, torch.Tensor]:
    clean = {k: v for k, v in os.environ.items() if k not in {"LOCAL_RANK", "NODE_RANK"}}
    done = subprocess.run(
        [sys.executable, _SCRIPT, path, str(devices)],
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
    one, two = (_weights(tmp_path / f"{n}.pt", n) for n in (1, 2))

    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)
