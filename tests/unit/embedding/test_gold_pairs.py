"""Pairs of sentences with people's similarities: read, ranked, and in the figures of a run."""

import csv
import json
import random

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

import potstill
from potstill.build import build
from potstill.data.gold import read_gold_pairs
from potstill.data.tokens import Tokens
from potstill.errors import DataError, RecipeError
from potstill.pipeline import Pipeline
from potstill.pipeline.pairing import gold_spearman
from potstill.recipe import parse

from .tiny import WORDS, save_sentence_encoder, save_texts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "encoder").mkdir()
    save_sentence_encoder(folder / "encoder")
    chance = random.Random(5)
    rows = []
    for _ in range(24):
        first = chance.choices(WORDS[4:], k=5)
        same = chance.randint(0, 5)
        second = [*first[:same], *chance.choices(WORDS[4:], k=5 - same)]
        rows.append((" ".join(first), " ".join(second), same))
    with (folder / "sts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("sentence1", "sentence2", "score"), *rows])
    lines = [json.dumps(dict(zip(("a", "b", "alike"), row, strict=True))) for row in rows]
    (folder / "sts.jsonl").write_text("\n".join(lines))
    return folder, save_texts(folder), rows


def recipe(place, **measure: object) -> potstill.Recipe:
    folder, files, _ = place
    return parse(
        {
            "name": "tiny-sentences",
            "task": "embedding",
            "data": {"source": "hf", "files": files, "kind": "text", "inputs": "text"},
            "teacher": {"model": {"source": "hf", "name": str(folder / "encoder")}},
            "student": {"model": {"source": "teacher", "make": "static", "width": 8}},
            "distill": {"epochs": 1, "objective": [{"term": "similarity_kl"}]},
            "seeds": 2,
            "export": [],
            "measure": {"energy": False, "seconds": 0.1, **measure},
            "device": "cpu",
        }
    )


def test_every_model_of_a_run_is_compared_with_the_gold_values(place, tmp_path) -> None:
    folder, _, rows = place
    experiment = build(recipe(place, pairs={"path": str(folder / "sts.csv")}))

    results = Pipeline(experiment, tmp_path / "run").run().results

    tests = {role: model["test"]["sts_spearman"] for role, model in results["models"].items()}
    assert [len(tests[role]["values"]) for role in ("teacher", "scratch", "distilled")] == [1, 2, 2]
    module, tokens = experiment.teacher.module.eval(), experiment.data.tokens
    cosines = []
    for first, second, _ in rows:
        with torch.no_grad():
            planes, _ = tokens.planes([first, second], None, max_length=32)
            a, b = module(torch.from_numpy(planes).long())
        cosines.append(round(float(a @ b / a.norm() / b.norm()), 6))
    ranks = [rankdata(values) for values in (cosines, [row[2] for row in rows])]
    assert tests["teacher"]["mean"] == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-3)
    assert "sts" in (tmp_path / "run" / "report.md").read_text().lower()


def test_columns_may_have_other_names_and_files_other_forms(place) -> None:
    folder, _, rows = place
    tokens = Tokens.load(str(folder / "encoder"))
    wanted = {"path": str(folder / "sts.jsonl"), "columns": ["a", "b"], "gold": "alike"}

    found = read_gold_pairs(wanted, tokens)
    other = read_gold_pairs({"files": {"test": str(folder / "sts.csv")}}, tokens)

    assert found.gold_N.tolist() == [float(row[2]) for row in rows]
    assert torch.equal(found.texts.inputs, other.texts.inputs)
    assert found.digest == other.digest
    assert "tensor" not in repr(found)  # it is part of what stages are known by


def test_the_figure_knows_order_alone() -> None:
    first = torch.tensor([[1.0, 0], [1, 0], [1, 0]])
    second = torch.tensor([[1.0, 0], [1, 1], [0, 1]])
    vectors = torch.cat([first, 7 * second])

    assert gold_spearman(vectors, torch.tensor([5.0, 4.9, 0])) == pytest.approx(1)
    assert gold_spearman(vectors, torch.tensor([0.0, 1, 2])) == pytest.approx(-1)
    assert gold_spearman(torch.cat([first, first]), torch.tensor([0.0, 1, 2])) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gold": "scores"}, "no column `scores`; did you mean `score`"),
        ({"gold": "sentence1"}, "a number is expected"),
        ({"columns": ["sentence1", "score"]}, "a text is expected"),
        ({"columns": ["sentence1"]}, "names 1 columns"),
    ],
)
def test_wrong_pairs_are_said(place, changes, words: str) -> None:
    folder, _, _ = place
    tokens = Tokens.load(str(folder / "encoder"))
    with pytest.raises(DataError, match=words):
        read_gold_pairs({"path": str(folder / "sts.csv"), **changes}, tokens)


def test_other_tasks_have_no_pairs(place) -> None:
    folder, _, _ = place
    given = recipe(place, pairs={"path": str(folder / "sts.csv")}).model_dump(mode="json")
    with pytest.raises(RecipeError, match=r"`measure\.pairs` has no option `gould`"):
        build(recipe(place, pairs={"path": str(folder / "sts.csv"), "gould": "x"}))
    given["task"] = "causal_lm"
    given["data"] = {"source": "text", "path": str(folder / "sts.csv"), "max_length": 16}
    given["data"]["tokenizer"] = {"vocabulary": 300}
    given["student"]["model"] = {"source": "hf", "model_type": "llama", "name": "s"}
    given["teacher"] = {"model": given["student"]["model"], "train": {"epochs": 1}}
    with pytest.raises(RecipeError, match="compares embeddings"):
        build(parse(given))
