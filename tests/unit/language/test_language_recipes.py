"""Language models from recipes: text files, conversations, students of the teacher, what ships."""

import json

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import potstill
from potstill.build import build
from potstill.data.vocabulary import train_bpe
from potstill.errors import RecipeError
from potstill.models import create_model, load_model
from potstill.pipeline import Pipeline
from potstill.pipeline.planning import make_plan
from potstill.recipe import load, parse

from .tiny import config

LINES = [f"{a} and {b} went to the {c}." for a in "abcdef" for b in "uvwxyz" for c in "123456"]
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
QUICK = {
    "seeds": 1,
    "device": "cpu",
    "store": "off",
    "measure": {"energy": False, "seconds": 0.1},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """A text, conversations, and a random Qwen with its tokenizer, as people have them."""
    folder = tmp_path_factory.mktemp("language")
    (folder / "book.txt").write_text("\n".join(LINES))
    talks = [
        {
            "messages": [
                {"role": "user", "content": f"where is {line[0]}?"},
                {"role": "assistant", "content": line},
            ]
        }
        for line in LINES[:80]
    ]
    (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)))
    tokenizer = train_bpe(LINES, vocabulary=280)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(str(folder / "qwen"))
    model = create_model(config("qwen2", layers=3, vocabulary=300), seed=0)
    model.model.save_pretrained(str(folder / "qwen"))
    return folder


def book(place, **changes: object) -> potstill.Recipe:
    made: dict[str, object] = {
        "name": "book",
        "task": "causal_lm",
        "data": {
            "source": "text",
            "path": str(place / "book.txt"),
            "max_length": 32,
            "tokenizer": {"vocabulary": 280},
        },
        "teacher": {
            "model": {"source": "hf", "model_type": "llama", "config": SIZES},
            "train": {"epochs": 2, "batch_size": 16, "lr": 1e-2},
        },
        "student": {
            "model": {
                "source": "hf",
                "model_type": "llama",
                "config": {**SIZES, "num_hidden_layers": 1},
            }
        },
        "distill": {"epochs": 1, "batch_size": 16, "lr": 1e-2},
        **QUICK,
    }
    return parse({**made, **changes})


def test_a_text_file_is_enough(place, tmp_path) -> None:
    run = Pipeline(build(book(place)), tmp_path / "run").run()

    shipped = run.folder / "export" / "distilled"
    opened = AutoModelForCausalLM.from_pretrained(str(shipped)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(shipped))
    told = tokenizer("a and u went", return_tensors="pt")
    student, _ = load_model(run.folder / "models" / "distilled" / "seed-0")
    planes = torch.stack([told["input_ids"], told["attention_mask"]], dim=1)
    with torch.no_grad():
        expected, found = student.eval()(planes), opened(**told).logits
    torch.testing.assert_close(found, expected)
    parity = json.loads((run.folder / "export" / "parity.json").read_text())["models"]
    assert parity["distilled"]["relative"] <= parity["distilled"]["bound"]
    results = run.results
    assert results["models"]["distilled"]["file"] == "export/distilled"
    assert results["models"]["distilled"]["file_bytes"] > 0
    card = (run.folder / "models" / "distilled" / "README.md").read_text(encoding="utf-8")
    assert "AutoModelForCausalLM" in card
    assert results["models"]["teacher"]["test"]["perplexity"]["mean"] < 280


def test_the_qwen_recipe_runs_on_a_tiny_qwen(place, tmp_path) -> None:
    overrides = [
        f"data.path={place / 'talks.jsonl'}",
        "data.max_length=48",
        "data.validation=0.1",
        f"teacher.model={{source: hf, name: {place / 'qwen'}, dtype: bfloat16}}",
        "student.model={source: teacher, layers: 2, keep: influence, ffn: 16}",
        "distill.epochs=1",
        "distill.reduction=sequence",
        "precision=32-true",
        *(
            f"{key}={yaml.safe_dump(value, default_flow_style=True)}"
            for key, value in QUICK.items()
        ),
    ]

    run = Pipeline(build(load("llm-qwen", overrides)), tmp_path / "run").run()

    student = run.results["models"]["distilled"]
    assert student["parameters"] < run.results["models"]["teacher"]["parameters"]
    opened = AutoModelForCausalLM.from_pretrained(str(run.folder / "export" / "distilled"))
    assert opened.config.num_hidden_layers == 2
    assert opened.config.intermediate_size == 16


def test_the_tiny_recipe_is_sound(place) -> None:
    path = place / "book.txt"
    text = f"{{source: text, path: {path}, max_length: 32, tokenizer: {{vocabulary: 280}}}}"

    made = build(load("tiny-lm", [f"data={text}"]))

    assert made.export == ("hf",)
    assert made.data.num_outputs <= 280
    assert made.student.make(0).head.out_features == made.data.num_outputs


def test_a_plan_speaks_of_tokens_and_memory(place) -> None:
    plan = make_plan(build(book(place)))

    said = " ".join(plan.notes)
    assert "tokens are asked for in an epoch" in said
    assert "The tokenizer has" in said
    assert "logits if they were held" in said


def test_a_reduction_is_for_language_models() -> None:
    made = load("digits", ["distill.reduction=sequence"])

    with pytest.raises(RecipeError, match="language models"):
        build(made)
