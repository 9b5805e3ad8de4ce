"""The shipped recipes of conditions run on tiny data."""

import numpy as np
import pytest

from potstill.build import build
from potstill.pipeline import Pipeline
from potstill.recipe import load

from .tiny import images, recipe, run, save_images

QUICK = [
    "seeds=1", "device=cpu", "speed=exact", "export=[]", "measure.energy=false",
    "measure.seconds=0.02", "teacher.train.epochs=2", "distill.epochs=2",
]  # fmt: skip


def _finished(name: str, folder, changes: list[str]) -> dict:
    return Pipeline(build(load(name, [*QUICK, *changes])), folder / "run").run().results


def _tiny(folder) -> list[str]:
    return ["data.source=npz", f"data.path={save_images(folder)}", "data.validation=80"]


def test_omitted(tmp_path) -> None:
    small = ["teacher.model.hidden=[16]", "student.model.hidden=[8]", "distill.lr=0.01"]
    results = _finished("mnist-omitted", tmp_path, [*_tiny(tmp_path), *small])

    assert results["correction"]["rare"] == [3]
    assert set(results["correction"]["recall"]["3"]) == {"before", "after"}


def test_from_fashion(tmp_path) -> None:
    other = tmp_path / "other.npz"
    pixels = np.random.default_rng(0).integers(0, 255, (120, 12, 12)).astype(np.uint8)
    np.savez(other, x_train=pixels, y_train=np.arange(120) % 3)
    transfer = ["data.transfer.source=npz", f"data.transfer.path={other}"]
    small = ["teacher.model.hidden=[16]", "student.model.hidden=[8]"]
    results = _finished("mnist-from-fashion", tmp_path, [*_tiny(tmp_path), *transfer, *small])

    assert any("nothing but 90 unlabelled samples of other" in w for w in results["warnings"])
    assert results["models"]["distilled"]["test"]["accuracy"]["mean"] > 0


def test_data_free(tmp_path) -> None:
    free = "{images: 64, chunks: 2, steps: 4, batch_size: 16}"
    small = ["teacher.model.hidden=[16]", "student.model.hidden=[8]", f"distill.data_free={free}"]
    results = _finished("mnist-data-free", tmp_path, [*_tiny(tmp_path), *small])

    assert len(list((tmp_path / "run" / "images").glob("*.npz"))) == 2
    assert results["models"]["distilled"]["test"]["accuracy"]["mean"] > 0


def test_patient(tmp_path) -> None:
    small = ["teacher.model.width=4", "student.model.hidden=[8]", "data.limit=100"]
    results = _finished("patient", tmp_path, small)

    assert results["objective"] == "KD(temperature=1)"
    assert results["store"]["used"] is False


@pytest.mark.parametrize("only", [False, True])
def test_a_transfer_part_is_weighed_or_learnt_from_alone(tmp_path, only: bool) -> None:
    path = save_images(tmp_path, x_transfer=images(60, seed=7)[0])
    content = recipe(
        path, data__transfer={"weight": 0.5, "only": only}, distill__epochs=12,
        distill__objective=[{"term": "kd"}, *([] if only else [{"term": "cross_entropy"}])],
    )  # fmt: skip
    results = run(content, tmp_path / "run").results

    assert results["store"]["records"] == (60 if only else 220)
    assert results["models"]["distilled"]["test"]["accuracy"]["mean"] > 0.5


def test_wrong_labels_of_students_are_resisted_with_a_teacher(tmp_path) -> None:
    noise = {"share": 0.6, "of": "students"}
    content = recipe(
        save_images(tmp_path), data__label_noise=noise, distill__objective=[{"term": "kd"}]
    )
    results = run(content, tmp_path / "run").results

    accuracy = {role: m["test"]["accuracy"]["mean"] for role, m in results["models"].items()}
    assert accuracy["distilled"] > accuracy["scratch"] + 0.1
