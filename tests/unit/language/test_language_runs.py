"""The whole way on tokens: a tiny teacher trained in the run, students, figures, report."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from potstill.data import DataSet, Kind, Normalise, Samples, TargetKind
from potstill.errors import PotstillError
from potstill.functional.tokens import next_tokens
from potstill.losses import KD, CrossEntropy, weighted
from potstill.models import create_model
from potstill.pipeline import Experiment, Learning, MadeModel, Pipeline
from potstill.pipeline.experiment import Measuring, Storing, TrainedTeacher, Use
from potstill.pipeline.storing import key_of
from potstill.store import Store, StoreWriter, label
from potstill.store.codecs import DenseLogits, Sampled, Vocabulary
from potstill.tasks import CausalLM
from potstill.teachers import ModuleTeacher, StoredTeacher
from potstill.train import Distiller, TrainSettings

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
            "teacher": TrainedTeacher(model=made(1, 32), learning=Learning(settings=taught)),
            "student": made(1, 8),
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


@pytest.mark.parametrize("codec", [Vocabulary(max_k=12, min_k=12, top_p=1.0), Sampled(draws=8)])
def test_answers_about_tokens_come_from_a_store(codec, tmp_path) -> None:
    changed = experiment(
        storing=Storing(use=Use.ON, codec=codec), seeds=(0,), objective=weighted(KD(temperature=1))
    )

    run = Pipeline(changed, tmp_path / "run").run()

    assert run.results["store"]["used"]
    store = Store(tmp_path / "run" / "store")
    labels = walks().train.labels
    assert labels is not None
    assert store.counts("logits").tolist() == (labels >= 0).sum(1).tolist()
    test = run.results["models"]["distilled"]["test"]["perplexity"]["mean"]
    assert 1.6 < test < 6


def test_a_store_of_all_tokens_teaches_as_the_live_teacher(tmp_path) -> None:
    """Every class is kept, so only the codec's rounding is between them."""
    task, data = CausalLM(), walks()
    teacher = ModuleTeacher(
        create_model(config(layers=1, width=16, vocabulary=TOKENS), seed=5), task
    )
    settings = TrainSettings(batch_size=16)
    feed = Learning(settings=settings).feed(data.train, data, seed=1, device="cpu")
    codecs = {"logits": DenseLogits("fp32")}
    place = tmp_path / "store"
    with StoreWriter(place, key=key_of(teacher, feed), codecs=codecs) as writer:
        label(teacher, feed, writer, samples_of=lambda batch: task.target(batch).samples)
    student = create_model(config(layers=1, width=16, vocabulary=TOKENS), seed=0)

    found = []
    for source in (teacher, StoredTeacher(place, of=teacher)):
        distiller = Distiller(
            student, source, objective=weighted(KD(temperature=1)), task=task, settings=settings
        )
        batch = feed.batch(3, 2)
        distiller.prepare(batch)
        found.append(distiller.gradients(batch)[1])

    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_a_store_knows_what_was_asked(tmp_path) -> None:
    task, data = CausalLM(), walks()
    teacher = ModuleTeacher(create_model(config(vocabulary=TOKENS), seed=5), task)
    learning = Learning(settings=TrainSettings(batch_size=16))
    feed = learning.feed(data.train, data, seed=1, device="cpu")
    place = tmp_path / "store"
    codecs = {"logits": Vocabulary()}
    with StoreWriter(place, key=key_of(teacher, feed), codecs=codecs) as writer:
        label(teacher, feed, writer, samples_of=lambda batch: task.target(batch).samples)
    assert data.train.labels is not None
    fewer = data.train.labels.clone()
    fewer[:, 0] = -100
    other = learning.feed(replace(data.train, labels=fewer), data, seed=1, device="cpu")

    with pytest.raises(PotstillError):
        StoredTeacher(place, of=teacher).signals(other.batch(0, 0))


def test_answers_about_tokens_are_not_stored_unasked(tmp_path) -> None:
    run = Pipeline(experiment(storing=Storing(), seeds=(0,)), tmp_path / "run").run()

    assert not run.results["store"]["used"]
    assert "store.codec" in run.results["store"]["reason"]
