"""Models measured on this machine: what is found, what is said, and figures of other machines."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from potstill.errors import DataError, ExportError, RecipeError, StorageError
from potstill.measure.artefacts import find_artefacts, samples_for
from potstill.measure.device import Measuring, measure_models
from potstill.measure.power import energy_per_thousand, package_counters
from potstill.measure.profile import DeviceProfile, beside
from potstill.measure.ratios import time_ratios
from potstill.measure.record import keep, kept
from potstill.measure.runners import open_runner

from .test_latency import write_matmul

QUICK = Measuring(seconds=0.05, starts=0, energy_seconds=0.02, watts=10.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of two ONNX files, a large and a small one, and test samples."""
    folder = tmp_path / "run"
    (folder / "export").mkdir(parents=True)
    write_matmul(folder / "export" / "teacher.onnx", width=4000)
    write_matmul(folder / "export" / "distilled.onnx", width=3)
    write_matmul(folder / "export" / "distilled-int8.onnx", width=2)
    write_matmul(folder / "export" / "distilled-streaming.onnx", width=2)
    (folder / "results.json").write_text(json.dumps({"format": 1, "models": {}}))
    np.savez(folder / "samples.npz", inputs=np.arange(40, dtype=np.uint8).reshape(10, 4))
    return folder


def write_program(path: Path) -> Path:
    """The smallest ExecuTorch program, of any batch up to 16."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exir = pytest.importorskip("executorch.exir")
        batch = torch.export.Dim("batch", min=1, max=16)
        model = nn.Linear(4, 3).eval()
        graph = torch.export.export(model, (torch.ones(2, 4),), dynamic_shapes=({0: batch},))
        path.write_bytes(exir.to_edge_transform_and_lower(graph).to_executorch().buffer)
    return path


def test_a_run_gives_its_exported_models_in_order_of_roles(run: Path) -> None:
    found = find_artefacts([run], ["onnxruntime"])

    assert [each.name for each in found] == ["teacher", "distilled", "distilled-int8"]
    assert {each.run for each in found} == {run}


def test_models_of_one_name_are_told_apart(run: Path, tmp_path: Path) -> None:
    write_matmul(tmp_path / "teacher.onnx", width=2)

    found = find_artefacts([run, tmp_path / "teacher.onnx"], ["onnxruntime"])

    assert "run/teacher" in {each.name for each in found}
    assert len({each.name for each in found}) == len(found)


def test_samples_are_those_of_the_run_in_the_type_that_models_take(run: Path) -> None:
    samples = samples_for(find_artefacts([run / "export/teacher.onnx"], ["onnxruntime"]), None)

    assert samples.dtype == np.float32
    assert samples[1].tolist() == [4, 5, 6, 7]


def test_a_lonely_file_is_given_numbers_of_its_shape(tmp_path: Path) -> None:
    path = write_matmul(tmp_path / "a.onnx", width=2)

    assert samples_for(find_artefacts([path], ["onnxruntime"]), None).shape == (64, 4)


def test_every_setting_has_its_figures(run: Path) -> None:
    asked = Measuring(batches=(1, 4), seconds=0.05, starts=0, energy_seconds=0.02, watts=10.0)

    profile = measure_models([run], asked, name="desk")

    assert [(f["model"], f["batch"]) for f in profile.figures] == [
        (name, batch) for batch in (1, 4) for name in ("teacher", "distilled", "distilled-int8")
    ]
    for figure in profile.figures:
        assert 0 < figure["p50_ms"] <= figure["p95_ms"] <= figure["p99_ms"]
        assert figure["samples_per_second"] > 0
        assert figure["energy_method"] == "watts"
        assert figure["startup_ms"] is None
    assert profile.models[0]["bytes"] == (run / "export/teacher.onnx").stat().st_size


def test_the_smaller_model_is_found_to_be_faster(run: Path) -> None:
    asked = Measuring(seconds=0.3, starts=0, energy_seconds=0)

    ratios = {r["name"]: r for r in measure_models([run], asked).ratios}

    low, high = ratios["distilled"]["ci95"]
    assert ratios["distilled"]["base"] == "teacher"
    assert ratios["distilled"]["ratio"] > 1.05
    assert low < ratios["distilled"]["ratio"] < high


def test_a_ratio_is_that_of_medians_side_by_side() -> None:
    slow = [[200, 200, 9000]] * 20  # one slow call a turn changes nothing
    fast = [[100, 100, 7000]] * 20

    (ratio,) = time_ratios({"slow": slow, "fast": fast}, "slow")

    assert ratio["ratio"] == 2.0
    assert ratio["ci95"] == [2.0, 2.0]
    assert ratio["blocks"] == 10


def test_noise_that_hits_both_leaves_the_ratio_alone() -> None:
    loads = np.linspace(1, 5, 40)

    (ratio,) = time_ratios(
        {"slow": [[300 * k] for k in loads], "fast": [[100 * k] for k in loads]}, "slow"
    )

    assert ratio["ratio"] == pytest.approx(3.0)


def test_start_up_and_memory_are_those_of_a_fresh_process(run: Path) -> None:
    asked = Measuring(seconds=0.02, starts=1, energy_seconds=0)

    figure = measure_models([run / "export/teacher.onnx"], asked).figures[0]

    assert figure["startup_ms"] == pytest.approx(figure["load_ms"] + figure["first_ms"])
    if sys.platform == "linux":
        # torch alone would take more than this
        assert 10e6 < figure["peak_bytes"] < 150e6
        assert 0 < figure["model_bytes"] < figure["peak_bytes"]


def test_onnx_files_are_measured_without_torch(run: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from potstill.measure.device import Measuring, measure_models\n"
        "asked = Measuring(seconds=0.01, starts=0, energy_seconds=0.01, watts=1)\n"
        f"print(len(measure_models([{str(run)!r}], asked).figures))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.slow
def test_executorch_programs_are_timed_beside_onnx_files(run: Path) -> None:
    path = write_program(run / "export" / "distilled.pte")

    (answer,) = open_runner(path, "executorch").call(np.ones((3, 4), dtype=np.float32))
    # its pool of threads is made once a process: here with one thread, for the figures with two
    profile = measure_models([run], replace(QUICK, threads=(2,)))

    assert tuple(answer.shape) == (3, 3)
    assert {f["threads"] for f in profile.figures} == {2}
    assert ("distilled", "executorch") in {(f["model"], f["runtime"]) for f in profile.figures}
    assert "distilled on executorch" in {r["name"] for r in profile.ratios}


def test_given_watts_are_a_product_of_time() -> None:
    found = energy_per_thousand(lambda _: None, [np.ones((2, 1))], seconds=0.05, watts=36.0)

    # 36 W for an hour are 36 Wh
    assert found["wh"] == pytest.approx(1000 * 0.01 * found["seconds"] / found["predictions"])
    assert found["estimate"]


def test_counters_of_energy_are_read_and_wrap_round(tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    for folder in (package, tmp_path / "intel-rapl:0:0"):  # the second is a part of the first
        folder.mkdir()
        (folder / "energy_uj").write_text("900\n")
    (package / "max_energy_range_uj").write_text("1000\n")

    def call(_: object) -> None:
        (package / "energy_uj").write_text("400\n")

    found = energy_per_thousand(call, [np.ones((1, 1))], seconds=0.01, counters=tmp_path)

    assert package_counters(tmp_path) == [package / "energy_uj"]
    assert found["method"] == "counters"
    assert found["wh"] == pytest.approx(1000 * 500 / 3.6e9 / found["predictions"])


def test_a_profile_of_another_device_is_compared_by_digest(run: Path, tmp_path: Path) -> None:
    measure_models([run], QUICK, name="board").save(tmp_path / "board.json")
    there = DeviceProfile.load(tmp_path / "board.json")
    here = measure_models([run / "export/distilled.onnx"], QUICK, name="desk")

    (row,) = beside(here, there)

    assert (row["model"], row["device"]) == ("distilled", "board")
    assert row["ratio"] == pytest.approx(row["there_ms"] / row["here_ms"])


def test_figures_of_other_files_are_refused(run: Path, tmp_path: Path) -> None:
    there = measure_models([write_matmul(tmp_path / "b.onnx", width=9)], QUICK, name="board")
    here = measure_models([run], QUICK)

    with pytest.raises(DataError, match="no digest is the same"):
        beside(here, there)


def test_figures_of_other_settings_are_refused(run: Path) -> None:
    other = Measuring(batches=(4,), seconds=0.02, starts=0, energy_seconds=0)

    with pytest.raises(DataError, match="batch 4, 1 threads there"):
        beside(measure_models([run], QUICK), measure_models([run], other, name="board"))


def test_a_run_keeps_each_device_once(run: Path) -> None:
    for name in ("desk", "board", "desk"):
        keep(run, measure_models([run / "export/distilled.onnx"], QUICK, name=name))

    assert [profile.name for profile in kept(run)] == ["desk", "board"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"format": 1}, "is no device profile"),
        ({"format": 1, "kind": "results"}, "is no device profile"),
        (
            {"format": 1, "kind": "device-profile", "name": "", "created": "", "machine": {},
             "models": [], "ratios": [], "figures": [{"model": "a"}]},
            "lacks some figures",
        ),
    ],
)  # fmt: skip
def test_files_of_another_kind_are_refused(
    tmp_path: Path, content: dict[str, object], sentence: str
) -> None:
    path = tmp_path / "board.json"
    path.write_text(json.dumps(content))

    with pytest.raises(DataError, match=sentence):
        DeviceProfile.load(path)


def test_what_is_not_there_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no device profile"):
        DeviceProfile.load(tmp_path / "none.json")
    with pytest.raises(StorageError, match="There is no"):
        measure_models([tmp_path / "none"])
    with pytest.raises(ExportError, match=r"nothing to measure on executorch.*found onnxruntime"):
        measure_models([run], Measuring(runtimes=["executorch"]))
    with pytest.raises(RecipeError, match="tensorrt"):
        Measuring(runtimes=["tensorrt"])
    with pytest.raises(RecipeError, match="batches"):
        Measuring(batches=(0,))


def test_samples_that_do_not_fit_are_told_before_time_is_spent(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((5, 7), dtype=np.float32))

    with pytest.raises(ExportError, match=r"teacher\.onnx cannot answer 1 samples.*1 × 7"):
        measure_models([run], QUICK, inputs=tmp_path / "rows.npy")
