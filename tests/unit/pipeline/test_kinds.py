"""The whole way for every kind of data, target and teacher, on small made-up sets."""

import json

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import nn

import potstill
from potstill.build import build
from potstill.data import from_arrays
from potstill.pipeline import Pipeline
from potstill.recipe import parse

QUICK = potstill.TrainSettings(epochs=2, batch_size=32)


def table(kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 6)).astype(np.float32)
    score = x[:, :3] + 0.5 * x[:, 3:]
    match kind:
        case "single_label":
            return x, score.argmax(1)
        case "multi_label":
            return x, (score > 0).astype(np.int64)
        case _:
            return x, score[:, :1].astype(np.float32)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_an_estimator_teaches_every_kind_of_target(tmp_path, kind: str) -> None:
    x, y = table(kind)
    forest = RandomForestRegressor if kind == "regression" else RandomForestClassifier
    teacher = forest(n_estimators=10, random_state=0).fit(x, y.squeeze())
    outputs = 1 if kind == "regression" else 3

    run = potstill.distill(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs)),
        teacher,
        (x, y),
        settings=QUICK,
        seeds=2,
        out=tmp_path / "run",
    )

    assert run.results["data"]["target_kind"] == kind
    assert run.verdict["helped"] in {"yes", "no", "unclear"}
    assert run.report.stat().st_size > 100_000
    assert (run.folder / "export" / "distilled.onnx").exists()


def test_signals_and_a_module_teacher(tmp_path) -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(160) % 2
    waves = np.sin(np.linspace(0, 6, 40) * (1 + labels[:, None])) + rng.normal(size=(160, 40)) / 4
    data = from_arrays(waves[:, None].astype(np.float32), labels, kind="signal")
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(40, 2))

    run = potstill.distill(
        lambda: nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)),
        teacher,
        data,
        settings=QUICK,
        seeds=2,
        out=tmp_path / "run",
    )

    assert run.results["data"]["kind"] == "signal"
    assert run.models["teacher"]["parameters"] == 82


def recipe(**changes: object) -> potstill.Recipe:
    return parse(
        {
            "name": "small",
            "data": {"source": "builtin", "name": "digits", "limit": 200},
            "teacher": {"model": {"name": "mlp", "hidden": [16]}, "train": {"epochs": 1}},
            "student": {"model": {"name": "mlp", "hidden": [8]}},
            "distill": {"epochs": 1},
            "seeds": 1,
            "measure": {"seconds": 0.1, "energy": False},
            **changes,
        }
    )


def test_an_ensemble_of_a_network_and_a_forest_teaches(tmp_path) -> None:
    members = [
        {"model": {"name": "mlp", "hidden": [16]}, "train": {"epochs": 1}},
        {"model": {"source": "sklearn", "name": "random_forest", "n_estimators": 5}},
    ]
    teacher = {"ensemble": members, "confidence": True, "weights": [2, 1]}

    run = Pipeline(build(recipe(teacher=teacher)), tmp_path / "run").run()

    assert run.models["teacher"]["name"] == "ensemble of 2"


def test_an_exported_student_can_teach_the_next(tmp_path) -> None:
    Pipeline(build(recipe()), tmp_path / "first").run()
    file = str(tmp_path / "first" / "export" / "distilled.onnx")
    teacher = {"model": {"source": "onnx", "path": file, "raw_inputs": True}}

    run = Pipeline(build(recipe(teacher=teacher)), tmp_path / "second").run()

    first = potstill.Run(tmp_path / "first").models["distilled"]["test"]["accuracy"]["mean"]
    assert run.models["teacher"]["test"]["accuracy"]["mean"] == pytest.approx(first)


def test_unlabelled_transfer_data_reach_the_distilled_student_alone(tmp_path) -> None:
    x, y = table("single_label")
    np.savez(tmp_path / "d.npz", x_train=x[:60], y_train=y[:60], x_transfer=x[60:120],
             x_test=x[120:], y_test=y[120:])  # fmt: skip
    data = {"source": "npz", "path": str(tmp_path / "d.npz"), "kind": "table", "validation": 10}
    distill = {"epochs": 4, "batch_size": 60}

    run = Pipeline(build(recipe(data=data, distill=distill)), tmp_path / "run").run()

    assert run.results["data"]["transfer"] == 60
    stages = json.loads((tmp_path / "run" / "stages.json").read_text())["stages"]
    assert stages["scratch/0"]["outcome"]["steps"] == stages["distilled/0"]["outcome"]["steps"] == 8


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_kd_on_other_targets_is_refused_with_the_way_out(tmp_path, task: str) -> None:
    x, y = table(task)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y)
    data = {"source": "npz", "path": str(tmp_path / "d.npz"), "kind": "table"}
    wrong = recipe(task=task, data=data)

    with pytest.raises(potstill.PotstillError, match="binary_kd" if task[0] == "m" else "huber"):
        Pipeline(build(wrong), tmp_path / "run").run()


def test_a_folder_of_pictures_and_a_timm_teacher_go_the_whole_way(tmp_path) -> None:
    """Three classes of PNG files in folders; a tiny timm network teaches a small network."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(72):
        name = ("red", "green", "blue")[number % 3]
        pixels = rng.integers(0, 90, (34, 30, 3), dtype=np.uint8)
        pixels[..., number % 3] += 120
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    teacher = {"source": "timm", "name": "test_resnet.r160_in1k", "pretrained": False}

    run = potstill.run(
        parse(
            {
                "name": "pictures",
                "data": {
                    "source": "hf",
                    "path": str(tmp_path / "pictures"),
                    "resize": 32,
                    "test": 0.25,
                },
                "teacher": {"model": teacher, "train": {"epochs": 2, "batch_size": 16}},
                "student": {"model": {"name": "cnn", "width": 4, "depth": 2}},
                "distill": {"epochs": 2, "batch_size": 16, "augment": [{"op": "flip"}]},
                "seeds": 2,
                "measure": {"seconds": 0.2, "energy": False},
            }
        ),
        out=tmp_path / "run",
    )

    assert run.results["data"]["kind"] == "image"
    assert run.results["data"]["classes"] == ["blue", "green", "red"]
    assert (run.folder / "export" / "distilled.onnx").exists()
    assert run.models["teacher"]["parameters"] > run.models["distilled"]["parameters"]
