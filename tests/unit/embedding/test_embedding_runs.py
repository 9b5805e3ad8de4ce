"""The whole way on a tiny sentence encoder: students, figures, and what is shipped."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoTokenizer

import potstill
from potstill.build import build
from potstill.errors import RecipeError
from potstill.models import load_model
from potstill.pipeline import Pipeline
from potstill.pipeline.planning import make_plan
from potstill.recipe import parse

from .tiny import WIDTH, save_sentence_encoder, save_texts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("sentences")
    (folder / "encoder").mkdir()
    save_sentence_encoder(folder / "encoder")
    return folder, save_texts(folder)


def recipe(place, **changes: object) -> potstill.Recipe:
    folder, files = place
    made: dict[str, object] = {
        "name": "tiny-sentences",
        "task": "embedding",
        "data": {"source": "hf", "files": files, "kind": "text", "inputs": "text"},
        "teacher": {"model": {"source": "hf", "name": str(folder / "encoder")}},
        "student": {"model": {"source": "teacher", "make": "static", "dropout": 0.1}},
        "distill": {
            "epochs": 8,
            "batch_size": 16,
            "lr": 2e-2,
            "objective": [{"term": "embedding_cosine"}, {"term": "similarity_kl", "scale": 5}],
        },
        "seeds": 2,
        "measure": {"energy": False, "seconds": 0.2},
        "device": "cpu",
    }
    return parse({**made, **changes})


def test_a_static_student_the_whole_way(place, tmp_path) -> None:
    run = Pipeline(build(recipe(place)), tmp_path / "run").run()

    results = run.results
    tests = {role: model["test"] for role, model in results["models"].items()}
    assert results["task"] == results["data"]["target_kind"] == "embedding"
    assert tests["teacher"]["similarity_spearman"]["mean"] == pytest.approx(1)
    assert tests["teacher"]["recall_at_1"]["mean"] == 1
    assert tests["distilled"]["cosine"]["mean"] > tests["scratch"]["cosine"]["mean"]
    assert (
        tests["distilled"]["similarity_spearman"]["mean"]
        > tests["scratch"]["similarity_spearman"]["mean"]
    )
    assert results["verdict"]["agreement"] == pytest.approx(
        tests["distilled"]["recall_at_1"]["mean"]
    )
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "similarity_spearman" in page or "Similarity" in page
    saved, config = load_model(run.folder / "models" / "distilled" / "seed-0")
    assert (config.name, config.num_outputs) == ("static", WIDTH)

    parity = json.loads((run.folder / "export" / "parity.json").read_text())["models"]
    assert parity["teacher"]["relative"] < 1e-4  # a transformer with its pooling
    assert parity["distilled"]["relative"] < 1e-4
    session = onnxruntime.InferenceSession(str(run.folder / "export" / "distilled.onnx"))
    tokenizer = AutoTokenizer.from_pretrained(str(run.folder / "export" / "tokenizer"))
    told = tokenizer(["w1 w2 w3", "w4"], padding=True, return_tensors="np")
    names = [given.name for given in session.get_inputs()]
    (vectors,) = session.run(None, {name: told[name] for name in names})
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert not saved.eval()(torch.zeros(1, 2, 3)).isnan().any()


@pytest.mark.parametrize(
    ("student", "width"),
    [
        ({"layers": 2}, WIDTH),
        ({"make": "transformer", "layers": 1, "width": 8, "heads": 2}, 8),
        ({"make": "static", "width": 4}, 4),
    ],
    ids=["layers", "transformer", "static"],
)
def test_students_of_every_kind(place, tmp_path, student, width) -> None:
    changed = recipe(
        place,
        student={"model": {"source": "teacher", **student}},
        distill={
            "epochs": 1,
            "batch_size": 32,
            "objective": [{"term": "embedding_mse"}, {"term": "similarity_kl"}],
        },
        seeds=1,
        export=[],
    )

    run = Pipeline(build(changed), tmp_path / "run").run()

    figures = run.results["models"]["distilled"]["test"]
    assert ("cosine" in figures) == (width == WIDTH)
    assert 0 < figures["similarity_spearman"]["mean"] <= 1
    saved, config = load_model(run.folder / "models" / "distilled" / "seed-0")
    assert saved.eval()(torch.ones(2, 2, 5)).shape == (2, width)
    assert config.num_outputs == width


def test_a_reduced_teacher_and_a_static_student_share_their_directions(place) -> None:
    folder, _ = place
    model = {"source": "hf", "name": str(folder / "encoder")}
    student = {"model": {"source": "teacher", "make": "static", "width": 6}}
    changed = recipe(place, teacher={"model": model, "width": 6}, student=student)

    experiment, whole = build(changed), build(recipe(place))
    plan = make_plan(experiment)

    directions = experiment.teacher.teacher.directions_ED
    table = whole.student.make(0).embedding.weight @ directions
    torch.testing.assert_close(experiment.student.make(0).embedding.weight, table)
    assert not plan.pairing  # equal widths: nothing to project
    torch.testing.assert_close(directions.T @ directions, torch.eye(6), rtol=1e-4, atol=1e-5)


def test_rare_tokens_weigh_more(place) -> None:
    counted = build(recipe(place))
    plain = recipe(place, student={"model": {"source": "teacher", "make": "static", "sif": 0}})

    table = counted.student.make(0).embedding.weight
    alike = build(plain).student.make(0).embedding.weight

    inputs = counted.data.train.inputs
    tokens = inputs[:, 0][inputs[:, 1] > 0].tolist()
    for token in (1, 7, 20):
        weight = 1e-3 / (1e-3 + tokens.count(token) / len(tokens))
        torch.testing.assert_close(table[token], weight * alike[token], rtol=1e-4, atol=1e-7)


def test_layers_of_encoders_can_be_compared_too(place, tmp_path) -> None:
    changed = recipe(
        place,
        student={"model": {"source": "teacher", "make": "transformer", "layers": 2, "width": 8,
                           "heads": 4}},
        distill={
            "epochs": 1,
            "batch_size": 32,
            "objective": [
                {"term": "hidden_states", "layers": 2, "embeddings": True},
                {"term": "attention_mse", "layers": 2},
                {"term": "attention_kl"},
                {"term": "relations", "heads": 8, "teacher_layer": "blocks.2"},
            ],
        },
        seeds=1,
        export=[],
    )  # fmt: skip

    run = Pipeline(build(changed), tmp_path / "run").run()

    assert run.results["models"]["distilled"]["test"]["similarity_spearman"]["mean"] > 0


def test_what_cannot_be_done_is_said(place) -> None:
    folder, _ = place
    model = {"source": "hf", "name": str(folder / "encoder")}

    with pytest.raises(RecipeError, match="one teacher as it is"):
        build(recipe(place, teacher={"model": model, "train": {"epochs": 1}}))
    with pytest.raises(RecipeError, match="num_outputs"):
        build(recipe(place, student={"model": {"source": "builtin", "name": "static"}}))
