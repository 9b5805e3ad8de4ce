"""Tasks of the lm-evaluation-harness, defined in a local folder: every model of a run is asked."""

import json
import sys
from pathlib import Path

import pytest
import torch

from potstill.build import build
from potstill.data.vocabulary import train_bpe
from potstill.errors import MissingExtra, RecipeError
from potstill.measure.harness import Harness
from potstill.models import create_model
from potstill.pipeline import Pipeline
from potstill.recipe import parse
from potstill.report.wording import metric_name

from .tiny import config

pytest.importorskip("lm_eval")

LINES = [f"{a} and {b} went to the {c}." for a in "abc" for b in "uvw" for c in "123"]
QUESTIONS = [
    {"question": line.rsplit(" ", 1)[0], "choices": ["1.", "2.", "3."], "answer": number % 3}
    for number, line in enumerate(LINES[:12])
]
TASK = """\
task: where_to
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harness")
    (folder / "tasks").mkdir()
    questions = folder / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, QUESTIONS)))
    (folder / "tasks" / "where_to.yaml").write_text(TASK.format(file=questions))
    (folder / "book.txt").write_text("\n".join(LINES * 3))
    train_bpe(LINES, vocabulary=280).save_pretrained(str(folder / "model"))
    model = create_model(config("llama", vocabulary=290), seed=0)
    model.model.save_pretrained(str(folder / "model"))
    return folder


def recipe(place: Path, lm_eval: object):
    return parse(
        {
            "name": "book",
            "task": "causal_lm",
            "data": {"source": "text", "path": str(place / "book.txt"), "max_length": 32},
            "teacher": {"model": {"source": "hf", "name": str(place / "model")}},
            "student": {"model": {"source": "teacher", "layers": 1}},
            "distill": {"objective": [{"term": "kd", "temperature": 1}], "epochs": 1},
            "seeds": 1,
            "device": "cpu",
            "store": "off",
            "measure": {"energy": False, "seconds": 0.1, "prompts": 0, "lm_eval": lm_eval},
        }
    )


def likeliest(model: torch.nn.Module, tokenizer, question: str, choices: list[str]) -> int:
    """By the sum of log-probabilities of the answer's tokens, one space before it."""
    scores = []
    for choice in choices:
        prompt = tokenizer(question)["input_ids"]
        whole = tokenizer(f"{question} {choice}")["input_ids"]
        with torch.no_grad():
            log = model.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(whole) - 1)
        scores.append(sum(float(log[p, whole[p + 1]]) for p in places))
    return max(range(len(choices)), key=scores.__getitem__)


def test_every_model_of_a_run_is_asked(place: Path, tmp_path: Path) -> None:
    wanted = {"tasks": ["where_to"], "include": str(place / "tasks"), "limit": 10}
    experiment = build(recipe(place, wanted))

    results = Pipeline(experiment, tmp_path / "run").run().results

    found = {
        role: results["models"][role]["test"]["lm_eval where_to acc"]["mean"]
        for role in ("teacher", "scratch", "distilled")
    }
    assert all(0 <= value <= 1 for value in found.values())
    teacher, tokenizer = experiment.teacher.module.eval(), experiment.data.tokens.tokenizer
    right = [
        likeliest(teacher, tokenizer, q["question"], q["choices"]) == q["answer"]
        for q in QUESTIONS[:10]
    ]
    assert found["teacher"] == pytest.approx(sum(right) / 10)
    assert "where_to acc (lm-eval)" in (tmp_path / "run" / "report.md").read_text()
    assert metric_name("lm_eval where_to acc") == "where_to acc (lm-eval)"


def test_asking_leaves_chance_and_modes_alone(place: Path) -> None:
    model = create_model(config("llama", vocabulary=290), seed=0)
    tokenizer = train_bpe(LINES, vocabulary=280)
    harness = Harness(tasks=("where_to",), include=str(place / "tasks"), limit=2)
    before = torch.random.get_rng_state()

    harness.scores(model, tokenizer)

    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training


def test_a_list_of_tasks_is_enough_and_unknown_ones_are_said_before_training(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    mine = TaskManager(include_path=str(place / "tasks"), include_defaults=False)
    monkeypatch.setattr(Harness, "_manager", mine)  # all that ship take seconds to list
    assert recipe(place, ["arc_easy"]).measure.lm_eval.tasks == ("arc_easy",)
    wanted = {"tasks": ["nowhere"], "include": str(place / "tasks")}
    with pytest.raises(RecipeError, match="no task `nowhere`"):
        build(recipe(place, wanted))
    with pytest.raises(RecipeError, match="no such folder"):
        Harness(tasks=("where_to",), include=str(place / "missing")).check()


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(MissingExtra, match=r"potstill\[harness\]"):
        Harness(tasks=("arc_easy",)).check()
