"""A recipe whose teacher has a tokenizer of its own: planned, run, and refused where it must be."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import potstill
from potstill.build import build
from potstill.errors import PotstillError
from potstill.pipeline.planning import make_plan
from potstill.recipe import parse

from ..vocab import tiny

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "max_position_embeddings": 256,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    tokenizer = tiny.sentencepiece()
    torch.manual_seed(0)
    # eight columns more than tokens, as heads often have
    model = LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=len(tokenizer) + 8))
    model.save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    (folder / "texts.txt").write_text("\n".join(tiny.TEXTS * 30), encoding="utf-8")
    return folder


def recipe(place: Path, **changes: object) -> dict[str, object]:
    teacher = {
        "model": {"source": "hf", "name": str(place / "teacher")},
        "tokenizer": str(place / "teacher"),
    }
    return {
        "name": "other",
        "task": "causal_lm",
        "data": {
            "source": "text",
            "path": str(place / "texts.txt"),
            "max_length": 32,
            "tokenizer": {"vocabulary": 300},
            "test": 0.2,
        },
        "teacher": teacher,
        "student": {"model": {"source": "hf", "name": "s", "model_type": "llama", "config": SIZES}},
        "distill": {
            "objective": [
                {"term": "cross_tokenizer_kd", "weight": 0.5},
                {"term": "cross_entropy", "weight": 0.5},
            ],
            "epochs": 1,
            "batch_size": 16,
            "lr": 0.005,
        },
        "seeds": [0],
        "export": [],
        "measure": {"seconds": 0.1, "energy": False},
        **changes,
    }


def test_the_plan_reports_both_vocabularies(place: Path) -> None:
    plan = make_plan(build(parse(recipe(place))))

    said = "\n".join(plan.notes)
    tokens = len(tiny.sentencepiece())
    assert f"The teacher has {tokens:,} tokens and {tokens + 8:,} columns: 8 are padding" in said
    assert "tokens are common" in said
    assert not plan.store.used


def test_it_runs(place: Path, tmp_path: Path) -> None:
    run = potstill.run(parse(recipe(place)), out=tmp_path / "run")

    models = run.results["models"]
    assert models["distilled"]["test"]["perplexity"]["mean"] > 1
    assert 1 < models["teacher"]["test"]["perplexity"]["mean"] < 10 * len(tiny.sentencepiece())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill": {"objective": [{"term": "kd"}]}}, "tokenizer of its own"),
        ({"teacher": {"train": {"epochs": 1}}}, "cannot be trained in the run"),
        ({"teacher": {"markers": {"<|no|>": "</s>"}}}, "no special token of the student"),
        (
            {"teacher": {"markers": {"a": "b"}, "tokenizer": None}},
            "for teachers with a `token",
        ),
        ({"teacher": {"tokenizer": "nowhere"}}, "no folder `nowhere` with a tokenizer"),
    ],
)
def test_what_cannot_work_is_refused(place: Path, changes, message: str) -> None:
    whole = recipe(place)
    for key, value in changes.items():
        whole[key] = {**whole[key], **value}  # type: ignore[dict-item]

    with pytest.raises(PotstillError, match=message):
        make_plan(build(parse(whole)))
