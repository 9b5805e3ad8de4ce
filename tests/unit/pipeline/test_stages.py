"""Stages run once, and again only when what they depend on has changed; what they leave behind."""

import json
from pathlib import Path

import numpy as np
import pytest

from potstill.build import build
from potstill.pipeline import Pipeline, Run
from potstill.pipeline.ledger import Ledger
from potstill.recipe import Recipe, load, parse

QUICK = {
    "name": "quick",
    "data": {"source": "builtin", "name": "digits", "limit": 300},
    "teacher": {"model": {"name": "mlp", "hidden": [64]}, "train": {"epochs": 5}},
    "student": {"model": {"name": "mlp", "hidden": [8]}},
    "distill": {"epochs": 2},
    "seeds": 2,
    "measure": {"seconds": 0.1, "energy": False},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "quick"
    Pipeline(build(parse(QUICK)), folder, command="potstill run quick").run()
    return folder


def stages_run(folder: Path, recipe: Recipe, monkeypatch) -> list[str]:
    """The stages that really ran."""
    seen: list[Ledger] = []
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda self: (seen.append(self), close(self))[0])
    Pipeline(build(recipe), folder).run()
    return seen[-1].ran


def test_a_finished_run_is_not_repeated(finished, monkeypatch) -> None:
    assert stages_run(finished, parse(QUICK), monkeypatch) == []


def test_only_what_changed_is_run_again(finished, monkeypatch) -> None:
    slower = {**QUICK, "distill": {"epochs": 2, "lr": 5e-4}}
    students = ["scratch/0", "scratch/1", "distilled/0", "distilled/1", "measure", "export"]
    students.append("ship")
    assert stages_run(finished, parse(slower), monkeypatch) == students

    threads = {**slower, "measure": {"seconds": 0.1, "energy": False, "threads": 2}}
    assert stages_run(finished, parse(threads), monkeypatch) == ["export", "ship"]

    more = {**threads, "seeds": 3}
    added = ["scratch/2", "distilled/2", "measure", "export", "ship"]
    assert stages_run(finished, parse(more), monkeypatch) == added

    (finished / "models" / "distilled" / "seed-1" / "model.safetensors").unlink()
    assert stages_run(finished, parse(more), monkeypatch) == ["distilled/1"]

    assert stages_run(finished, parse(QUICK), monkeypatch)[-3:] == ["measure", "export", "ship"]


def test_the_folder_holds_all_that_was_promised(finished) -> None:
    for name in (
        "recipe.yaml", "environment.json", "stages.json", "metrics.jsonl", "results.json",
        "report.html", "report.md", "predictions.npz", "export/parity.json",
        "export/distilled.onnx", "export/manifest.json", "export/preprocessing.json",
        "export/labels.json", "export/README.md", "export/example.py", "models/distilled/README.md",
        "models/distilled/seed-0/model.safetensors", "models/distilled/seed-0/config.json",
    ):  # fmt: skip
        assert (finished / name).is_file(), name
    assert not (finished / "checkpoints").exists()
    assert load(str(finished / "recipe.yaml")) == parse(QUICK)


def test_results_have_the_keys_that_other_tools_read(finished) -> None:
    results = json.loads((finished / "results.json").read_text())

    assert {
        "format",
        "name",
        "task",
        "primary",
        "higher_is_better",
        "seeds",
        "models",
        "verdict",
    } <= (results.keys())
    assert results["format"] == 1
    assert results["task"] == "classification"
    assert set(results["models"]) == {"teacher", "scratch", "distilled"}
    for role, model in results["models"].items():
        for part in ("test", "test_last", "test_best"):
            summary = model[part][results["primary"]]
            assert set(summary) == {"mean", "std", "ci95", "values"}
            assert len(summary["values"]) == (1 if role == "teacher" else 2)
        assert {"parameters", "bytes", "flops", "train_seconds", "energy_wh", "latency_ms"} <= (
            model.keys()
        )
        assert model["latency_ms"].keys() >= {"p50", "p95", "batch", "threads", "engine"}
    assert results["verdict"].keys() >= {
        "helped", "gain", "gain_ci95", "p_value", "gap_recovered", "retention", "agreement",
        "speedup", "compression",
    }  # fmt: skip


def test_predictions_reproduce_the_figures(finished) -> None:
    results = Run(finished).results
    with np.load(finished / "predictions.npz") as kept:
        right = (kept["distilled_1"].argmax(1) == kept["labels"]).mean()

    values = results["models"]["distilled"]["test"]["accuracy"]["values"]
    assert values[1] == pytest.approx(right, abs=1e-6)


def test_the_shipped_student_answers_as_the_onnx_file_does(finished) -> None:
    import onnxruntime
    import torch

    run = Run(finished)
    data = build(parse(QUICK)).data
    raw = data.test.inputs[:20]
    session = onnxruntime.InferenceSession(str(finished / "export" / "distilled.onnx"))
    (answers,) = session.run(None, {session.get_inputs()[0].name: raw.float().numpy()})

    with torch.no_grad():
        expected = run.student()(data.normalise(raw))

    assert np.abs(answers - expected.numpy()).max() < 1e-4 * max(1.0, float(expected.abs().max()))


def test_a_run_shows_itself_in_a_notebook(finished) -> None:
    run = Run(finished)

    assert run.verdict["sentence"] in run._repr_html_()
    assert run._repr_html_().count("<tr>") == 4
    assert "| teacher |" in run._repr_markdown_()
