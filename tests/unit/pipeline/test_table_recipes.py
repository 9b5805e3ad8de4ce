"""The shipped recipes about tables and signals, on made-up data of the same form."""

import json

import numpy as np
import pytest

import potstill
from potstill.recipe import load

QUICK = ["seeds=1", "export=[]", "measure.seconds=0.1", "measure.energy=false", "speed=exact"]
HEART = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,target"
ADULT = "age,workclass,fnlwgt,education.num,sex,hours.per.week,income"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_heart_tree(tmp_path, rng) -> None:
    rows = rng.integers(0, 4, size=(120, 13))
    ill = (rows[:, 2] + rows[:, 11] > 3).astype(int)
    lines = [",".join(map(str, [*row, y])) for row, y in zip(rows, ill, strict=True)]
    (tmp_path / "heart.csv").write_text("\n".join([HEART, *lines]) + "\n")
    tiny = [f"data.path={tmp_path / 'heart.csv'}", "data.synthetic.rows=300"]

    run = potstill.run(load("heart-tree", [*QUICK, *tiny]), out=tmp_path / "run")

    assert run.results["data"]["classes"] == ["diseased", "healthy"]
    assert "cp=3" in run.results["data"]["features"]
    lines = run.results["models"]["distilled"]["rules"]["lines"]
    assert any("diseased" in line for line in lines)


def test_adult_mlp(tmp_path, rng) -> None:
    lines = [ADULT]
    for _ in range(160):
        age, hours, work = rng.integers(17, 80), rng.integers(10, 60), rng.choice(["Private", "?"])
        rich = ">50K" if age + hours > 90 else "<=50K"
        lines.append(f"{age},{work},9,{hours % 16},{rng.choice(['Male', 'Female'])},{hours},{rich}")
    (tmp_path / "adult.csv").write_text("\n".join(lines) + "\n")
    tiny = [f"data.path={tmp_path / 'adult.csv'}", "data.synthetic.rows=100", "distill.epochs=1"]

    run = potstill.run(load("adult-mlp", [*QUICK, *tiny]), out=tmp_path / "run")

    assert run.results["data"]["classes"] == ["<=50K", ">50K"]
    assert "workclass=missing" in run.results["data"]["features"]
    assert "fnlwgt" not in run.results["data"]["features"]
    assert run.results["data"]["transfer"] == 100


def test_ecg_beats(tmp_path, rng) -> None:
    labels = np.arange(100) % 5
    beats = rng.normal(size=(100, 180)).astype(np.float32) + labels[:, None]
    np.savez(tmp_path / "beats.npz", x_train=beats, y_train=labels, x_test=beats, y_test=labels)
    tiny = [
        *(f"data.path={tmp_path / 'beats.npz'}", "teacher.train.epochs=1", "distill.epochs=2"),
        *("teacher.model.width=2", "teacher.model.depth=2", "student.model.width=2"),
    ]

    run = potstill.run(load("ecg-beats", [*QUICK, *tiny]), out=tmp_path / "run")

    assert run.results["primary"] == "balanced_accuracy"
    assert "class_weights" in run.results["objective"]
    assert len(run.results["models"]["distilled"]["per_class"]) == 5
    assert json.loads((tmp_path / "run/store.json").read_text())["used"]
