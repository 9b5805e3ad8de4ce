"""Ctrl-C in a terminal: the state is kept, the way on is said, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .shared import call, write_recipe

LONG = {
    "teacher": {"model": {"name": "mlp", "hidden": [16]}, "train": {"epochs": 3}},
    "distill": {"epochs": 80, "batch_size": 8, "validate_every": 5},
    "seeds": 1,
    "speed": "exact",
}


def start(recipe: Path, run: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "potstill", "run", str(recipe), "--out", str(run)]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def weights(run: Path) -> dict[str, object]:
    return {
        str(path.relative_to(run)): load_file(path)
        for path in sorted((run / "models").rglob("*.safetensors"))
    }


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the process that is interrupted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_interrupted_and_gone_on_with_a_run_ends_as_if_nothing_had_happened(
    tmp_path, monkeypatch
) -> None:
    recipe = write_recipe(tmp_path, **LONG)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert call(monkeypatch, "run", recipe, "--out", whole) == 0

    process = start(recipe, stopped)
    log = stopped / "metrics.jsonl"
    limit = time.monotonic() + 100
    while not (log.exists() and "scratch" in log.read_text(encoding="utf-8")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130, said
    assert "Run the same command again to go on." in " ".join(said.split())
    assert "Traceback" not in said
    assert not (stopped / "results.json").exists()

    assert call(monkeypatch, "run", recipe, "--out", stopped) == 0

    first, second = weights(whole), weights(stopped)
    assert first.keys() == second.keys()
    assert len(first) >= 3
    for name, tensors in first.items():
        for key, tensor in tensors.items():
            assert tensor.equal(second[name][key]), (name, key)
    figures = [json.loads((run / "results.json").read_text()) for run in (whole, stopped)]
    for role in ("teacher", "scratch", "distilled"):
        assert figures[0]["models"][role]["test"] == figures[1]["models"][role]["test"]
