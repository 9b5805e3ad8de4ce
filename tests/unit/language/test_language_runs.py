"""The whole way on tokens: a tiny teacher trained in the run, students, figures, report."""

import json

import numpy as np
import pytest
import torch

from potstill.data import DataSet, Kind, Normalise, Samples, TargetKind
from potstill.functional.tokens import next_tokens
from potstill.losses import KD, CrossEntropy
from potstill.models import create_model
from potstill.pipeline import Experiment, Learning, MadeModel, Pipeline
from potstill.pipeline.experiment import Measuring, Storing, TrainedTeacher, Use
from potstill.tasks import CausalLM
from potstill.train import TrainSettings

from .tiny import config

TOKENS = 12


def texts(count: int, *, first_id: int, seed: int) -> Samples:
    """Walks around a circle of tokens: the next one is one further, sometimes two."""
    generator = torch.Generator().manual_seed(seed)
    length = 20
    steps = 1 + (torch.rand(count, length, generator=generator) < 0.2).long()
    begin = torch.randint(0, TOKENS, (count, 1), generator=generator)
    ids = (begin + steps.cumsum(1)) % TOKENS
    planes = torch.stack([ids, torch.ones_like(ids)], dim=1).int()
    lengths = torch.randint(8, length + 1, (count,), generator=generator)
    planes *= (torch.arange(length)[None, None] < lengths[:, None, None]).int()
    labels = next_tokens(planes[:, 0], planes[:, 1])
    return Samples(planes, torch.arange(first_id, first_id + count), labels)


def walks() -> DataSet:
    return DataSet(
        name="walks",
        kind=Kind.TEXT,
        target_kind=TargetKind.TOKENS,
        train=texts(128, first_id=0, seed=0),
        validation=texts(32, first_id=500, seed=1),
        test=texts(33, first_id=900, seed=2),
        normalise=Normalise(tokens=True),
        num_outputs=TOKENS,
    )


def made(layers: int, width: int) -> MadeModel:
    chosen = config(layers=layers, width=width, vocabulary=TOKENS)
    return MadeModel(
        make=lambda seed: create_model(chosen, seed=seed),
        name=chosen.name,
        description=chosen.description,
        key=repr(chosen.to_json()),
        config=chosen,
    )


def experiment(**changes: object) -> Experiment:
    taught = TrainSettings(epochs=8, batch_size=16, lr=1e-2)
    settings = TrainSettings(epochs=3, batch_size=16, lr=1e-2)
    return Experiment(
        **{
            "name": "walks",
            "task": CausalLM(),
            "data": walks(),
            "teacher": TrainedTeacher(model=made(2, 32), learning=Learning(settings=taught)),
            "student": made(1, 16),
            "objective": 0.8 * KD(temperature=1) + 0.2 * CrossEntropy(),
            "learning": Learning(settings=settings),
            "seeds": (0, 1),
            "export": (),
            "measuring": Measuring(seconds=0.1, energy=False),
            "storing": Storing(use=Use.OFF),
            "device": "cpu",
            **changes,
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    return Pipeline(experiment(), tmp_path_factory.mktemp("walks") / "run").run()


def test_the_whole_way(run) -> None:
    results = run.results

    assert results["task"] == "causal_lm"
    assert results["primary"] == "perplexity"
    assert not results["higher_is_better"]
    teacher = results["models"]["teacher"]["test"]
    best = np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.2))
    assert best < teacher["perplexity"]["mean"] < 2.5  # of 12 tokens
    assert teacher["nll"]["mean"] == pytest.approx(np.log(teacher["perplexity"]["mean"]))
    distilled = results["models"]["distilled"]
    assert 0 < distilled["agreement"]["mean"] <= 1
    assert 0 <= distilled["calibration"]["ece"]["mean"] < 1
    assert results["verdict"]["helped"] in {"yes", "no", "unclear"}
    assert distilled["parameters"] < results["models"]["teacher"]["parameters"]


def test_predictions_hold_one_row_a_token(run) -> None:
    with np.load(run.folder / "predictions.npz") as arrays:
        found = dict(arrays)

    labels = walks().test.labels
    assert labels is not None
    asked = labels[labels >= 0].numpy()
    assert found["labels"].tolist() == asked.tolist()
    assert found["teacher_0"].shape == (len(asked), 3)
    per_sample = (labels >= 0).sum(1).numpy()
    assert found["ids"].tolist() == np.repeat(walks().test.ids.numpy(), per_sample).tolist()
    nll = float(found["distilled_0"][:, 0].mean())
    value = run.results["models"]["distilled"]["test"]["nll"]["values"][0]
    assert nll == pytest.approx(value, rel=1e-6)


def test_the_report_is_written(run) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")

    assert "erplexity" in page
    assert json.loads((run.folder / "results.json").read_text())["data"]["target_kind"] == "tokens"
    assert (run.folder / "models" / "distilled" / "README.md").exists()
