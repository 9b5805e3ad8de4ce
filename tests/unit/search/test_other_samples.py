"""Searches on texts, with a teacher of torchvision, and with augmented samples."""

import pytest

from potstill import api
from potstill.pipeline.search_settings import Settings
from potstill.recipe import parse

from ..text.tiny import save_encoder, save_texts

QUICK = {"seeds": 1, "measure": {"energy": False, "seconds": 0.1}, "device": "cpu"}
EAGER = Settings(trials=4, runtime="torch")


@pytest.mark.slow
def test_students_of_texts_are_made_of_the_teacher(tmp_path) -> None:
    save_encoder(tmp_path / "encoder")
    files = save_texts(tmp_path)
    recipe = parse(
        {
            "name": "tiny-texts",
            "data": {
                "source": "hf",
                "files": files,
                "kind": "text",
                "inputs": "text",
                "label": "label",
            },
            "teacher": {
                "model": {"source": "hf", "name": str(tmp_path / "encoder")},
                "train": {"epochs": 1, "batch_size": 16, "lr": 2e-3},
            },
            "student": {"model": {"source": "teacher", "layers": 2}},
            "distill": {"epochs": 1, "batch_size": 16, "lr": 3e-3},
            **QUICK,
        }
    )

    found = api.search_recipe(
        recipe, targets={"parameters": "100k"}, settings=EAGER, out=tmp_path / "out"
    )

    failed = [t.reason for t in found.trials if t.state == "failed"]
    assert not failed, failed
    assert {t.values["family"] for t in found.trials} <= {
        "recipe",
        "bilstm",
        "bag",
        "transformer",
        "layers",
    }
    assert found.content["teacher"]["asked_by_trials"] == 0


@pytest.mark.slow
def test_views_of_augmented_samples_are_stored_and_a_library_teacher_has_siblings(tmp_path) -> None:
    recipe = parse(
        {
            "name": "moved",
            "data": {"source": "builtin", "name": "digits", "limit": 300},
            "teacher": {
                "model": {"source": "torchvision", "name": "shufflenet_v2_x1_0"},
                "train": {"epochs": 1, "batch_size": 64},
            },
            "student": {"model": {"name": "mlp", "hidden": [8]}},
            "distill": {"epochs": 2, "augment": [{"op": "affine", "translate": 1}]},
            **QUICK,
        }
    )

    found = api.search_recipe(
        recipe, settings=EAGER, families=["torchvision"], out=tmp_path / "out"
    )

    names = {t.student for t in found.trials if t.values["family"] == "torchvision"}
    assert all("shufflenet_v2_x" in name for name in names)
    assert found.content["teacher"]["asked_by_trials"] == 0
    samples = found.content["teacher"]["labelled"]
    assert samples == 2 * 270, "two epochs, two views"
