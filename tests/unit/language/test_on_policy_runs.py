"""The whole way with students that learn from their own answers."""

import json
from pathlib import Path

import pytest
import torch

import potstill
from potstill.build import build
from potstill.data import Samples
from potstill.errors import RecipeError
from potstill.functional.tokens import IGNORED
from potstill.measure.texts import exact_match, rouge_l
from potstill.pipeline import Pipeline
from potstill.pipeline.writing import ends_of, exam_of
from potstill.recipe import load, parse
from potstill.testing.pairs import save_pairs


def small(layers: int, width: int) -> dict[str, object]:
    config = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return {"source": "hf", "name": f"llama-{width}", "model_type": "llama", "config": config}


def recipe(files: dict[str, str], **changes: object) -> potstill.Recipe:
    made: dict[str, object] = {
        "name": "pairs",
        "task": "causal_lm",
        "data": {
            "source": "hf",
            "files": files,
            "prompt": "question",
            "answer": "answer",
            "template": "{prompt} = ",
            "tokenizer": {"vocabulary": 300},
        },
        "teacher": {"model": small(2, 32), "train": {"epochs": 8, "batch_size": 16, "lr": 1e-2}},
        "student": {"model": small(1, 16)},
        "distill": {
            "epochs": 2,
            "batch_size": 16,
            "lr": 1e-2,
            "on_policy": {"fraction": 0.5, "after": 0.5, "max_new_tokens": 12, "replay": {}},
        },
        "seeds": 2,
        "measure": {"energy": False, "seconds": 0.1, "prompts": 15},
        "export": [],
        "device": "cpu",
    }
    return parse({**made, **changes})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def run(files, tmp_path_factory: pytest.TempPathFactory):
    return Pipeline(build(recipe(files)), tmp_path_factory.mktemp("run") / "run").run()


def test_every_model_answers_the_test_prompts(run) -> None:
    lines = (run.folder / "written.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    tests = [json.loads(line) for line in _test_lines(run)][:15]

    assert [row["prompt"] for row in rows] == [f"{t['question']} =" for t in tests]
    assert [row["reference"] for row in rows] == [t["answer"] for t in tests]
    references = [row["reference"] for row in rows]
    for role, names in {
        "teacher": ["teacher_0"],
        "scratch": ["scratch_0", "scratch_1"],
        "distilled": ["distilled_0", "distilled_1"],
    }.items():
        scores = run.results["models"][role]["test"]
        for metric, of in (("rouge_l", rouge_l), ("exact_match", exact_match)):
            expected = [of([row[name] for row in rows], references) for name in names]
            assert scores[metric]["values"] == pytest.approx(expected)
    assert run.results["models"]["teacher"]["test"]["rouge_l"]["mean"] > 0.05


def _test_lines(run) -> list[str]:
    text = (run.folder / "recipe.yaml").read_text(encoding="utf-8")
    return Path(load_yaml(text)["data"]["files"]["test"]).read_text().splitlines()


def load_yaml(text: str) -> dict:
    import yaml

    return yaml.safe_load(text)


def test_writing_is_in_the_log_and_its_time_in_the_results(run) -> None:
    text = (run.folder / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    written = [line["rollout"] for line in lines if "rollout" in line]

    assert len(written) == 2 * 2, "of the distilled students alone"
    assert [w["written"] for w in written] == [0, 115, 0, 115], (
        "half of 230 samples, after half of the steps"
    )
    distilled = run.results["models"]["distilled"]
    assert 0 < distilled["rollout_seconds"] < distilled["train_seconds"]
    assert run.results["models"]["scratch"]["rollout_seconds"] is None
    assert not run.results["store"]["used"]
    assert "on_policy" in run.results["store"]["reason"]


def test_the_control_is_the_same_with_and_without_on_policy_samples(run, files, tmp_path) -> None:
    without = {"epochs": 2, "batch_size": 16, "lr": 1e-2}
    other = recipe(files, distill=without, seeds=1, store="off")

    plain = Pipeline(build(other), tmp_path / "plain").run()

    for role, same in (("teacher", True), ("scratch", True), ("distilled", False)):
        mine = run.results["models"][role]["test"]["nll"]["values"][0]
        assert (plain.results["models"][role]["test"]["nll"]["values"][0] == mine) == same


def test_a_store_is_refused(files, tmp_path) -> None:
    with pytest.raises(RecipeError, match="which no store holds"):
        Pipeline(build(recipe(files, store="on")), tmp_path / "run").run()


def test_other_tasks_are_refused() -> None:
    digits = load("digits", ["distill.on_policy={}"])

    with pytest.raises(RecipeError, match="for language models"):
        build(digits)


def test_plain_texts_have_no_exam(tmp_path) -> None:
    (tmp_path / "all.txt").write_text("one two three four five six seven\n" * 60)
    data = {
        "source": "text",
        "path": str(tmp_path / "all.txt"),
        "tokenizer": {"vocabulary": 270},
        "max_length": 16,
        "test": 0.2,
    }
    made = build(recipe({}, data=data))

    assert exam_of(made.data, count=10) is None
    eos = made.data.tokens.tokenizer.eos_token_id
    assert ends_of(made.data.train, made.data.tokens) == (eos,)


def test_answers_end_with_the_mark_that_most_of_them_end_with() -> None:
    labels = torch.full((5, 6), IGNORED)
    for row, (begin, end) in enumerate([(1, 3), (2, 4), (1, 2), (3, 5), (2, 3)]):
        labels[row, begin:end] = 7
        labels[row, end - 1] = 9 if row else 4  # one was cut off
    samples = Samples(torch.zeros(5, 2, 6, dtype=torch.int32), torch.arange(5), labels)

    assert ends_of(samples, None) == (9,)
