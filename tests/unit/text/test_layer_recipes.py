"""The shipped recipes on the layers of encoders run, on a tiny teacher and made-up texts."""

import json

import pytest

from potstill.build import build
from potstill.pipeline import Pipeline
from potstill.recipe import load

from .tiny import save_encoder, save_texts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("layers")
    save_encoder(folder / "encoder", layers=6)
    return folder, save_texts(folder, train=96, test=32)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("distilbert-way", {"kd", "cross_entropy", "hidden_states"}),
        ("tinybert-way", {"kd", "hidden_states", "attention_mse"}),
        ("minilm-way", {"kd", "cross_entropy", "attention_kl", "relations"}),
    ],
)
def test_the_recipe_runs(place, tmp_path, name: str, terms: set[str]) -> None:
    folder, files = place
    given = ", ".join(f"{part}: {path}" for part, path in files.items())
    changes = [
        "data.path=null", "data.splits=null", f"data.files={{{given}}}", "data.inputs=text",
        f"teacher.model.name={folder / 'encoder'}", "teacher.model.pretrained=false",
        "teacher.train.epochs=1", "distill.epochs=2", "seeds=1", "device=cpu", "export=[]",
        "measure.energy=false", "measure.seconds=0.1",
    ]  # fmt: skip
    if name != "distilbert-way":  # as many heads as the teacher, and a width that they divide
        changes += ["student.model.width=8", "student.model.heads=2"]
    if name == "minilm-way":
        changes += ["distill.objective.1.heads=4"]

    run = Pipeline(build(load(name, changes)), tmp_path / "run").run()

    written = (run.folder / "metrics.jsonl").read_text().splitlines()
    lines = [line for line in map(json.loads, written) if line["role"] == "distilled"]
    train = [line["terms"] for line in lines if line["split"] == "train"]
    assert set(train[-1]) == terms
    assert sum(train[-1].values()) < sum(train[0].values())
    assert run.results["models"]["distilled"]["test"]["accuracy"]["mean"] >= 0
