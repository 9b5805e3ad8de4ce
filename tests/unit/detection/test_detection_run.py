"""The recipe, from pictures to an exported file and a report, on coloured rectangles."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

import potstill
from potstill.errors import DataError, HandshakeError, Interrupted, RecipeError
from potstill.models import load_model
from potstill.recipe import load
from potstill.tasks import Detection
from potstill.train import Distiller, TrainSettings

from .scenes import detector, write_coco

TINY = [
    "data.source=coco",
    "data.classes=[red, blue]",
    "data.resize=64",
    "teacher.model.width=4",
    "teacher.model.neck=8",
    "student.model.width=4",
    "student.model.neck=8",
    "teacher.train.epochs=1",
    "distill.epochs=1",
    "distill.validate_every=1",
    "seeds=1",
    "measure.seconds=0.05",
    "measure.energy=false",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("cells") / "set")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cells"
    return potstill.run(load("blood-cells", [*TINY, f"data.path={folder}"]), out=out)


def test_the_recipe_runs_to_the_end(run) -> None:
    results = run.results

    assert results["task"] == "detection"
    assert results["primary"] == "map"
    assert set(results["models"]["distilled"]["test"]) == {
        "map", "map_50", "map_75", "ap_red", "ap_blue",
    }  # fmt: skip
    assert results["data"]["classes"] == ["red", "blue"]
    assert results["store"]["used"] is False


def test_the_report_shows_what_each_finds(run) -> None:
    page = run.report.read_text(encoding="utf-8")

    assert "What they find" in page
    for who in ("truth", "teacher", "scratch", "distilled"):
        assert f", {who}: " in page
    assert page.count('class="scene"') == 6


def test_the_exported_file_says_what_the_model_says(run, folder) -> None:
    model, _ = load_model(run.folder / "models" / "distilled" / "seed-0")
    data = potstill.data.load("coco", {"path": str(folder), "resize": 64}, target_kind="boxes")
    pictures = data.test.inputs[:2].float()
    session = onnxruntime.InferenceSession(run.folder / "export" / "distilled.onnx")

    (said,) = session.run(None, {"input": pictures.numpy()})

    with torch.no_grad():
        expected = model.eval()(data.normalise(pictures))
    assert said.shape == (2, 256 + 64 + 16, 4 + 2)  # cells of strides 4, 8, 16
    np.testing.assert_allclose(said, expected.numpy(), rtol=1e-3, atol=1e-3)
    parity = json.loads((run.folder / "export" / "parity.json").read_text())["models"]
    assert parity["distilled"]["relative"] <= 1e-4


def test_a_plan_is_made_without_training(folder) -> None:
    plan = potstill.plan(load("blood-cells", [*TINY, f"data.path={folder}"]))

    assert plan.samples["train"] == 12
    assert not plan.store.used


class StopsAt:
    """A progress that presses Ctrl-C at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def begin(self, title, total_steps, done_steps) -> None: ...

    def advance(self, steps_done: int) -> None:
        if steps_done == self.step:
            import signal

            signal.raise_signal(signal.SIGINT)

    def note(self, text) -> None: ...

    def end(self) -> None: ...


def test_a_stopped_training_goes_on_to_the_same_weights(folder, tmp_path) -> None:
    data = potstill.data.load("coco", {"path": str(folder), "resize": 64}, target_kind="boxes")
    augment = potstill.data.Augment.parse(["flip", {"op": "affine", "scale": 0.2}])

    def train(where, progress=None):
        feed = potstill.data.Feed(
            samples=data.train, batch_size=4, seed=0, normalise=data.normalise, augment=augment
        )
        model = detector(width=4, neck=8, size=(64, 64))
        settings = TrainSettings(epochs=2, lr=1e-3, checkpoint_seconds=0)
        distiller = Distiller(model, task=Detection(), settings=settings)
        return distiller.fit(feed, folder=where, progress=progress).last

    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", StopsAt(4))
    again = train(tmp_path / "cut")

    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            ["distill.objective=[{term: kd}]"],
            HandshakeError,
            "single_label or tokens or transcript targets, the task is boxes; use place_kd",
        ),
        (["distill.mix={kind: mixup}"], RecipeError, "Pictures with boxes are not mixed"),
        (["teacher.model.bins=6"], HandshakeError, "compares place by place"),
        (["store=on"], RecipeError, "not stored yet"),
        (
            ["student.model={source: torchvision, name: fasterrcnn}"],
            RecipeError,
            "cannot be written as one ONNX file",
        ),
        (["teacher.tta={views: 2, augment: [{op: flip}]}"], RecipeError, "teacher.tta"),
    ],
)
def test_what_cannot_be_is_said_before_time_is_lost(folder, changes, error, said: str) -> None:
    with pytest.raises(error, match=said):
        potstill.plan(load("blood-cells", [*TINY, f"data.path={folder}", *changes]))


def test_data_without_boxes_are_refused() -> None:
    with pytest.raises(DataError, match=r"are no boxes; `task: detection` needs \[N, M, 6\]"):
        potstill.data.load("builtin", {"name": "digits"}, target_kind="boxes")
