"""The whole way on texts: a tiny encoder, its students, and everything that is shipped."""

import json

import numpy as np
import onnxruntime
import pytest
from transformers import AutoTokenizer

import potstill
from potstill.build import build
from potstill.errors import RecipeError
from potstill.pipeline import Pipeline
from potstill.recipe import parse

from .tiny import save_encoder, save_texts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("texts")
    save_encoder(folder / "encoder")
    return folder, save_texts(folder)


def recipe(place, **changes: object) -> potstill.Recipe:
    folder, files = place
    made: dict[str, object] = {
        "name": "tiny-texts",
        "data": {
            "source": "hf",
            "files": files,
            "kind": "text",
            "inputs": "text",
            "label": "label",
        },
        "teacher": {
            "model": {"source": "hf", "name": str(folder / "encoder")},
            "train": {"epochs": 10, "batch_size": 16, "lr": 2e-3},
        },
        "student": {"model": {"source": "teacher", "layers": 2}},
        "distill": {"epochs": 2, "batch_size": 16, "lr": 3e-3},
        "seeds": 2,
        "measure": {"energy": False, "seconds": 0.2},
        "device": "cpu",
    }
    return parse({**made, **changes})


def test_the_whole_way(place, tmp_path) -> None:
    run = Pipeline(build(recipe(place)), tmp_path / "run").run()

    results = run.results
    assert results["data"]["kind"] == "text"
    assert results["models"]["teacher"]["test"]["accuracy"]["mean"] > 0.9
    student, teacher = results["models"]["distilled"], results["models"]["teacher"]
    assert student["parameters"] < teacher["parameters"]
    assert student["latency_ms"]["engine"] == "onnxruntime"
    assert results["verdict"]["helped"] in {"yes", "no", "unclear"}
    assert results["store"]["used"]
    parity = json.loads((run.folder / "export" / "parity.json").read_text())["models"]
    assert parity["distilled"]["relative"] < 1e-4
    assert "input_ids" in _inputs(run.folder / "export" / "distilled.onnx")
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert 'class="text"' in page
    card = (run.folder / "models" / "distilled" / "README.md").read_text(encoding="utf-8")
    assert "AutoTokenizer" in card


def test_the_shipped_file_answers_with_the_shipped_tokenizer(place, tmp_path) -> None:
    student = {"model": {"source": "teacher", "make": "bag", "width": 8}}
    changed = recipe(place, student=student, seeds=1, store="off")
    run = Pipeline(build(changed), tmp_path / "run").run()
    session = onnxruntime.InferenceSession(str(run.folder / "export" / "distilled.onnx"))
    tokenizer = AutoTokenizer.from_pretrained(str(run.folder / "export" / "tokenizer"))
    names = [given.name for given in session.get_inputs()]

    told = tokenizer(["the film was great", "dull"], padding=True, return_tensors="np")
    (together,) = session.run(["logits"], {name: told[name] for name in names})
    alone = tokenizer(["dull"], return_tensors="np")
    (single,) = session.run(["logits"], {name: alone[name] for name in names})

    assert together.shape == (2, 2)
    np.testing.assert_allclose(together[1:], single, rtol=1e-4, atol=1e-5)


def test_pairs_and_layers(place, tmp_path) -> None:
    folder, files = place
    changed = recipe(
        place,
        data={"source": "hf", "files": files, "kind": "text", "inputs": ["text", "other"]},
        teacher={"model": {"source": "hf", "name": str(folder / "encoder")}},
        student={"model": {"source": "teacher", "make": "transformer", "layers": 1, "width": 8,
                           "heads": 2}},
        distill={
            "epochs": 1,
            "batch_size": 32,
            "objective": [
                {"term": "kd"},
                {
                    "term": "hint",
                    "student_layer": "model.bert.encoder.layer.0",
                    "teacher_layer": "model.bert.encoder.layer.3",
                },
            ],
        },
        seeds=1,
    )  # fmt: skip

    run = Pipeline(build(changed), tmp_path / "run").run()

    assert not run.results["store"]["used"]
    assert "longest text" in run.results["store"]["reason"]
    assert "token_type_ids" in _inputs(run.folder / "export" / "distilled.onnx")


@pytest.mark.parametrize(
    ("task", "label", "teaches", "primary"),
    [
        ("multi_label", "both", "binary_kd", "f1_macro"),
        ("regression", "value", "squared_error", "rmse"),
    ],
)
def test_other_targets(place, tmp_path, task, label, teaches, primary) -> None:
    folder, files = place
    term = {"term": teaches} | ({"follow": "teacher"} if task == "regression" else {})
    changed = recipe(
        place,
        task=task,
        data={"source": "hf", "files": files, "kind": "text", "inputs": "text", "label": label},
        teacher={
            "model": {"source": "hf", "name": str(folder / "encoder"), "new_head": True},
            "train": {"epochs": 30, "batch_size": 16, "lr": 2e-3},
        },
        student={"model": {"source": "teacher", "make": "bag"}},
        distill={"epochs": 8, "batch_size": 16, "lr": 2e-2, "objective": [term]},
        seeds=1,
        store="off",
    )

    run = Pipeline(build(changed), tmp_path / "run").run()

    models = run.results["models"]
    for role in ("teacher", "distilled"):
        score = models[role]["test"][primary]["mean"]
        assert score > 0.8 if task == "multi_label" else score < 0.4, role
    session = onnxruntime.InferenceSession(str(run.folder / "export" / "distilled.onnx"))
    outputs = 2 if task == "multi_label" else 1
    assert session.get_outputs()[0].shape[-1] == outputs


def test_what_cannot_be_done_is_said(place) -> None:
    _, files = place
    without = {"source": "builtin", "name": "bag", "vocabulary": 22}
    teacher = {"model": without, "train": {"epochs": 1}}

    with pytest.raises(RecipeError, match=r"data\.tokenizer"):
        build(recipe(place, teacher=teacher, student={"model": without}))
    with pytest.raises(RecipeError, match="source hf"):
        build(
            recipe(
                place,
                data={"source": "hf", "files": files, "kind": "text", "inputs": "text",
                      "tokenizer": str(place[0] / "encoder")},
                teacher=teacher,
            )
        )  # fmt: skip
    augmented = {"epochs": 1, "augment": [{"op": "noise"}]}
    with pytest.raises(RecipeError, match="neither augmented nor mixed"):
        Pipeline(build(recipe(place, distill=augmented)), place[0] / "augmented").run()


def _inputs(path) -> list[str]:
    return [given.name for given in onnxruntime.InferenceSession(str(path)).get_inputs()]
