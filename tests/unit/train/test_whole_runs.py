"""Runs from end to end: killed and resumed, and with a teacher that knows nothing."""

import json
import multiprocessing
import time

import pytest
import torch
from safetensors.torch import load_file

from . import tiny_runs

_SPAWN = multiprocessing.get_context("forkserver")
_SPAWN.set_forkserver_preload([tiny_runs.__name__])


def _figures(folder) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.slow
def test_a_run_killed_in_each_stage_gives_the_same_models(tmp_path) -> None:
    tiny_runs.run(tmp_path / "whole")

    for stage in ("teacher-0", "scratch-1", "distilled-0", "distilled-2"):
        process = _SPAWN.Process(target=tiny_runs.run_slowly, args=(tmp_path / "killed",))
        process.start()
        checkpoint = tmp_path / "killed" / "checkpoints" / f"{stage}.pt"
        while process.is_alive() and not checkpoint.exists():
            time.sleep(0.005)
        assert process.is_alive(), f"it never came to {stage}"
        process.kill()
        process.join()
    run = tiny_runs.run(tmp_path / "killed")

    models = sorted((tmp_path / "whole" / "models").rglob("*.safetensors"))
    assert len(models) == 3 * 7
    for path in models:
        ours = load_file(tmp_path / "killed" / path.relative_to(tmp_path / "whole"))
        for name, value in load_file(path).items():
            assert torch.equal(ours[name], value), f"{path.name} {name}"
    key = str
    assert sorted(map(key, _figures(tmp_path / "killed"))) == sorted(
        map(key, _figures(tmp_path / "whole"))
    )
    assert run.folder == tmp_path / "killed"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_teacher_of_random_weights_never_helps(tmp_path, seed) -> None:
    tiny_runs.run(tmp_path, random_teacher=100 + seed, epochs=4)

    results = json.loads((tmp_path / "results.json").read_text())

    assert results["verdict"]["helped"] in {"no", "unclear"}, results["verdict"]
    assert len(results["models"]["distilled"]["test"]["accuracy"]["values"]) == 3
    assert any("teacher" in warning for warning in results["warnings"]), "it must be said loudly"
