"""Test-time augmentation of a teacher: a mean over views that depends on nothing but the sample."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import potstill
from potstill.data import Augment, DataSet, from_arrays
from potstill.errors import HandshakeError, RecipeError
from potstill.pipeline.experiment import Looks
from potstill.recipe import parse
from potstill.signals import Batch
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher, ViewAverage


def pictures(rows: int = 40) -> DataSet:
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % 2
    images = rng.integers(0, 200, (rows, 1, 8, 8), dtype=np.uint8)
    images[labels == 1, :, :4] += 50
    return from_arrays(images, labels, kind="image")


def teacher(classes: int = 2) -> ModuleTeacher:
    torch.manual_seed(0)
    return ModuleTeacher(nn.Sequential(nn.Flatten(), nn.Linear(64, classes)), Classification())


def batch_of(data: DataSet, rows: slice) -> Batch:
    part = data.train
    return Batch(data.normalise(part.inputs[rows]), ids=part.ids[rows])


JITTER = Augment.parse([{"op": "jitter", "pixels": 1}])


def test_it_is_the_mean_of_the_answers_to_the_image_and_its_views() -> None:
    data, plain = pictures(), teacher()
    batch = batch_of(data, slice(0, 6))

    said = Looks(augment=JITTER, views=3).around(plain, data).signals(batch)

    unit = data.train.inputs[:6].float() / 255
    answers = [plain.signals(batch).logits.dense()]
    for number in (1, 2, 3):
        view = torch.full((6,), number)
        seen = data.normalise.standard(JITTER(unit, ids=batch.ids, view=view))
        answers.append(plain.signals(Batch(seen)).logits.dense())
    torch.testing.assert_close(said.logits.dense(), torch.stack(answers).mean(0))
    assert not torch.allclose(answers[0], answers[1])  # the views are different pictures


def test_a_sample_is_answered_alike_in_every_batch() -> None:
    data = pictures()
    looking = Looks(augment=JITTER, views=2).around(teacher(), data)

    whole = looking.signals(batch_of(data, slice(0, 8))).logits.dense()
    part = looking.signals(batch_of(data, slice(3, 8))).logits.dense()

    torch.testing.assert_close(whole[3:], part)


def test_views_of_views_differ_from_each_other() -> None:
    data = pictures()
    looking = Looks(augment=JITTER, views=2).around(teacher(), data)
    batch = batch_of(data, slice(0, 6))

    def at(view: int) -> torch.Tensor:
        seen = Batch(batch.inputs, ids=batch.ids, view=torch.full((6,), view))
        return looking.signals(seen).logits.dense()

    assert not torch.allclose(at(1), at(2))
    torch.testing.assert_close(at(1), at(1))


def test_signals_and_tables_are_seen_after_normalisation() -> None:
    rng = np.random.default_rng(0)
    data = from_arrays(
        rng.normal(5, 3, (30, 6)).astype(np.float32), np.arange(30) % 2, kind="table"
    )
    torch.manual_seed(0)
    plain = ModuleTeacher(nn.Linear(6, 2), Classification())
    noise = Augment.parse([{"op": "noise", "std": 0.1}])
    batch = Batch(data.normalise(data.train.inputs[:5]), ids=data.train.ids[:5])

    said = Looks(augment=noise, views=1).around(plain, data).signals(batch).logits.dense()

    seen = noise(batch.inputs, ids=batch.ids, view=torch.ones(5, dtype=torch.int64))
    expected = (plain.model(batch.inputs) + plain.model(seen)) / 2
    torch.testing.assert_close(said, expected.detach())


def test_the_fingerprint_tells_views_apart() -> None:
    data, plain = pictures(), teacher()
    other = Augment.parse([{"op": "jitter", "pixels": 2}])
    prints = {
        plain.fingerprint(),
        Looks(augment=JITTER, views=2).around(plain, data).fingerprint(),
        Looks(augment=JITTER, views=3).around(plain, data).fingerprint(),
        Looks(augment=other, views=2).around(plain, data).fingerprint(),
    }
    assert len(prints) == 4


def test_features_are_not_offered_and_no_view_is_refused() -> None:
    assert ViewAverage(teacher(), lambda b, _: b, views=1, key="").offers().layers is None
    with pytest.raises(RecipeError, match="1 view or more"):
        ViewAverage(teacher(), lambda b, _: b, views=0, key="")


RECIPE = {
    "name": "looks",
    "data": {"source": "builtin", "name": "digits", "limit": 200},
    "teacher": {
        "model": {"name": "mlp", "hidden": [16]},
        "train": {"epochs": 2},
        "tta": {"views": 2, "augment": [{"op": "jitter", "pixels": 1}]},
    },
    "student": {"model": {"name": "mlp", "hidden": [4]}},
    "distill": {"epochs": 2, "eps": 1e-4, "objective": [{"term": "kd", "temperature": 4}]},
    "seeds": 2,
    "export": [],
    "measure": {"seconds": 0.1, "energy": False},
}


@pytest.mark.parametrize("store", ["on", "off"])
def test_a_recipe_asks_for_it_and_the_store_keeps_the_mean(tmp_path, store: str) -> None:
    run = potstill.run(parse({**RECIPE, "store": store, "speed": "exact"}), out=tmp_path / "run")

    results = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
    assert "2 views" in results["models"]["teacher"]["description"]
    assert results["store"]["used"] is (store == "on")


def test_mixing_and_hints_do_not_go_with_it(tmp_path) -> None:
    mixed = {**RECIPE, "distill": {**RECIPE["distill"], "mix": {"kind": "mixup"}}}
    with pytest.raises(RecipeError, match="tta"):
        potstill.run(parse(mixed), out=tmp_path / "mixed")

    hint = {"term": "hint", "student_layer": "layer1", "teacher_layer": "layer1"}
    hinted = {**RECIPE, "distill": {**RECIPE["distill"], "objective": [hint]}}
    with pytest.raises(HandshakeError, match="layer"):
        potstill.run(parse(hinted), out=tmp_path / "hinted")


def test_epsilon_reaches_the_optimiser() -> None:
    from potstill.train.settings import OptimizerName, TrainSettings, make_optimizer

    for name in (OptimizerName.ADAMW, OptimizerName.ADAM):
        settings = TrainSettings(optimizer=name, eps=1e-3)
        made = make_optimizer([nn.Parameter(torch.ones(2))], settings)
        assert made.param_groups[0]["eps"] == 1e-3
