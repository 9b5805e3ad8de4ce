"""The recipes that are squeezed, on tiny data: pictures, and texts with a tokenizer made here."""

import json

import pytest

from potstill import api
from potstill.build import build
from potstill.errors import RecipeError
from potstill.losses import KD, CrossEntropy, Hint
from potstill.pipeline.compression.bench import plain, refuse
from potstill.recipe import load

from ..text.tiny import rows, save_texts, save_tokenizer

SHORT = [
    "distill.epochs=1",
    "teacher.train.epochs=1",
    "compress.epochs=1",
    "compress.steps=1",
    "seeds=1",
    "speed=exact",
    "export=[]",
    "measure={seconds: 0.05, energy: false}",
]


@pytest.mark.slow
def test_news_end_as_a_small_file(tmp_path) -> None:
    save_tokenizer(tmp_path / "words")
    files = save_texts(tmp_path)
    more = tmp_path / "more.jsonl"
    more.write_text("\n".join(json.dumps({"text": row["text"]}) for row in rows(600, seed=9)))
    files["transfer"] = str(more)
    overrides = [
        *SHORT,
        f"data={{source: hf, files: {json.dumps(files)}, kind: text, inputs: text, label: label}}",
        f"data.tokenizer={tmp_path / 'words'}",
        "data.max_length=12",
        "teacher.model.config.hidden_size=16",
        "teacher.model.config.num_hidden_layers=1",
    ]
    wishes = ["compress.ratio=4", "compress.ways=distil+prune+quantise"]
    recipe = load("squeezed-news", [*overrides, *wishes])

    record = api.compress_run(recipe, out=tmp_path / "run")

    assert {way["way"] for way in record["ways"]} == {"distil+prune+quantise"}
    assert all(way["reaches"] for way in record["ways"])
    assert record["references"]["teacher"]["latency_ms"]["p50"] > 0
    stages = json.loads((tmp_path / "run" / "compressed" / "stages.json").read_text())["stages"]
    part = "distil-prune-quantise-{}-step-1/0"
    taught, alone = (stages[part.format(how)]["outcome"]["steps"] for how in ("with", "without"))
    assert alone == pytest.approx(taught, rel=0.2)  # though only a teacher can use all texts


@pytest.mark.slow
def test_clothes_end_as_a_pruned_teacher_too(tmp_path) -> None:
    data = "data={source: builtin, name: digits, test: 0.35, validation: 0.1}"
    small = ["teacher.model.width=16", "student.model.width=8", "teacher.model.depth=2"]
    wishes = ["compress.ratio=6", "compress.ways=prune", "compress.importance=activation"]
    recipe = load("squeezed-fashion", [*SHORT, data, *small, "student.model.depth=2", *wishes])

    record = api.compress_run(recipe, out=tmp_path / "run")

    assert [way["way"] for way in record["ways"]] == ["prune", "prune"]
    assert all(5.5 < way["compression"] < 12 for way in record["ways"])
    assert all(way["epochs"] == 1 for way in record["ways"])


def test_terms_on_layers_are_left_out_and_one_on_answers_is_needed() -> None:
    mixed = 0.9 * KD(temperature=4) + 0.1 * CrossEntropy() + 5.0 * Hint("layer1", "layer1")

    assert repr(plain(mixed)) == repr(0.9 * KD(temperature=4) + 0.1 * CrossEntropy())
    with pytest.raises(RecipeError, match="add a term on answers"):
        plain(0.1 * CrossEntropy() + 5.0 * Hint("layer1", "layer1"))


@pytest.mark.parametrize("name", ["breast-cancer-tree", "own-teacher", "early-exits"])
def test_runs_that_cannot_be_squeezed_say_so_before_any_work(name) -> None:
    data = "data={source: builtin, name: digits, test: 0.35}"
    recipe = load(name, [] if name == "breast-cancer-tree" else [data])

    with pytest.raises(RecipeError, match=r"squeeze|not asked again"):
        refuse(build(recipe))
