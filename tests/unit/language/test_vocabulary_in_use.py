"""Runs in the tokens of the training texts alone: models cut to them, exports."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill.build import build
from potstill.data.vocabulary import train_bpe
from potstill.errors import ModelError, RecipeError
from potstill.losses import KD
from potstill.models import ModelConfig, create_model, cut_tokens, with_kept
from potstill.pipeline import Pipeline
from potstill.pipeline.planning import make_plan
from potstill.pipeline.trimming import mass_outside
from potstill.recipe import parse
from potstill.signals import LazyLogits, Logits, Signals, Target

from .tiny import VOCABULARY, config

LINES = [f"{a} and {b} went to the {c}." for a in "abc" for b in "uvw" for c in "123"]
MORE = ["Whisky is distilled twice in copper stills.", "Nobody ever uses these words here."]
KEPT = [0, 3, 4, 9, 20, 36]


def whole_model(kind: str, folder):
    model = create_model(config(kind), seed=0)
    model.model.save_pretrained(str(folder))
    return model.eval()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # a head of its own, one tied to the table
def test_a_model_cut_to_some_tokens_says_of_them_what_the_whole_one_says(kind, tmp_path) -> None:
    whole = whole_model(kind, tmp_path)
    given = ModelConfig(
        source="hf",
        name=str(tmp_path),
        options=with_kept({}, KEPT),
        input_shape=(2, 24),
        num_outputs=len(KEPT),
        purpose="causal_lm",
    )
    small = create_model(given).eval()
    new = torch.randint(0, len(KEPT), (3, 7))
    old = torch.tensor(KEPT)[new]
    ones = torch.ones_like(new)

    with torch.no_grad():
        mine = small(torch.stack([new, ones], 1))
        theirs = whole(torch.stack([old, ones], 1))[..., KEPT]

    assert small.model.config.vocab_size == len(KEPT)
    assert (small.head.weight is small.model.get_input_embeddings().weight) == (kind == "gpt2")
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_the_teacher_is_the_whole_one_renormalised_over_the_tokens_that_stay(tmp_path) -> None:
    whole = whole_model("llama", tmp_path)
    cut = cut_tokens(create_model(config("llama"), seed=0), KEPT)
    states, mine = torch.randn(5, 16), torch.randn(5, len(KEPT), requires_grad=True)

    taught = Signals(LazyLogits(states, cut.head))
    KD(temperature=1.0)(Signals(Logits(mine)), taught, Target(5)).total.backward()

    p = whole.head(states).softmax(-1)[:, KEPT].detach()
    dense = mine.detach().requires_grad_()
    p = p / p.sum(-1, keepdim=True)
    (p * (p.log() - dense.log_softmax(-1))).sum().backward()
    torch.testing.assert_close(mine.grad, dense.grad, rtol=1e-4, atol=1e-5)


def test_numbers_beyond_the_model_are_refused() -> None:
    with pytest.raises(ModelError, match=f"{VOCABULARY} tokens"):
        cut_tokens(create_model(config("llama"), seed=0), [1, VOCABULARY])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("in-use")
    (folder / "book.txt").write_text("\n".join(LINES * 3))
    tokenizer = train_bpe([*LINES, *MORE * 5], vocabulary=330)
    tokenizer.save_pretrained(str(folder / "model"))
    model = create_model(config("qwen2", layers=3, vocabulary=340), seed=0)
    model.model.save_pretrained(str(folder / "model"))
    return folder


def recipe(place, **data: object):
    return parse(
        {
            "name": "book",
            "task": "causal_lm",
            "data": {
                "source": "text",
                "path": str(place / "book.txt"),
                "max_length": 32,
                "vocabulary": "used",
                **data,
            },
            "teacher": {"model": {"source": "hf", "name": str(place / "model")}},
            "student": {"model": {"source": "teacher", "layers": 1}},
            "distill": {"objective": [{"term": "kd", "temperature": 1}], "epochs": 1},
            "seeds": 1,
            "device": "cpu",
            "store": "off",
            "measure": {"energy": False, "seconds": 0.1},
        }
    )


def test_a_run_in_the_tokens_in_use_ships_a_model_that_opens(place, tmp_path) -> None:
    experiment = build(recipe(place))
    plan = make_plan(experiment)
    run = Pipeline(experiment, tmp_path / "run").run()

    shipped = tmp_path / "run" / "export" / "distilled"
    model = AutoModelForCausalLM.from_pretrained(shipped)
    tokenizer = AutoTokenizer.from_pretrained(shipped)
    text = f"{LINES[0]} {MORE[0]}"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    size = len(tokenizer)

    assert size < len(AutoTokenizer.from_pretrained(place / "model"))
    assert tokenizer.decode(ids[0]) == text
    assert model.config.vocab_size == size
    assert model(ids).logits.shape[-1] == size
    assert run.results["models"]["distilled"]["test"]["perplexity"]["mean"] > 0
    told = [note for note in plan.notes if "tokens in use" in note]
    assert len(told) == 1
    assert f"{size:,} of " in told[0]
    assert "MB" in told[0]
    assert "of its probability lies on others" in experiment.teacher.description


def test_the_mass_outside_is_what_the_whole_teacher_gives_the_other_tokens(place) -> None:
    experiment = build(recipe(place))
    data, config_ = experiment.data, experiment.teacher.config
    kept = data.tokens.kept
    options = {k: v for k, v in config_.options.items() if k != "kept_tokens"}
    whole = create_model(replace(config_, options=options)).eval()

    found = mass_outside(whole, data, kept)

    rows = data.train.rows(slice(0, 32))
    inputs = rows.inputs.long()
    inputs[:, 0] = torch.tensor(kept)[inputs[:, 0]]
    with torch.no_grad():
        p = whole(inputs).softmax(-1)[rows.labels != -100]
    assert found == pytest.approx(float(1 - p[:, list(kept)].sum(-1).mean()), rel=1e-4)
    assert 0 < found < 1


def test_students_of_other_sources_are_refused(place) -> None:
    given = recipe(place).model_dump(mode="json")
    given["student"]["model"] = {"source": "file", "name": "somewhere"}

    with pytest.raises(RecipeError, match="source file"):
        build(parse(yaml.safe_load(json.dumps(given))))


def test_an_unknown_word_is_refused(place) -> None:
    with pytest.raises(RecipeError, match="vocabulary: some"):
        build(recipe(place, vocabulary="some"))
