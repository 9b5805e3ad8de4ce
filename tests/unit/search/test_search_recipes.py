"""The recipe that ships for searches, on tiny pictures: a search by latency, and a run."""

import numpy as np
import pytest

from potstill import api
from potstill.pipeline.search_settings import Settings

QUICK = [
    "data.source=npz", "data.validation=40", "seeds=1", "speed=exact", "export=[onnx]",
    "measure.energy=false", "measure.seconds=0.02", "teacher.train.epochs=1",
    "teacher.model.width=4", "distill.epochs=1",
]  # fmt: skip


@pytest.mark.slow
def test_fashion_mnist_is_searched_and_run(tmp_path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 10
    pixels = (rng.normal(size=(240, 28, 28)) * 20 + 20 * labels[:, None, None]).clip(0, 255)
    pixels = pixels.astype(np.uint8)
    path = tmp_path / "clothes.npz"
    np.savez(
        path, x_train=pixels[:200], y_train=labels[:200], x_test=pixels[200:], y_test=labels[200:]
    )
    changes = [*QUICK, f"data.path={path}"]

    found = api.search_recipe(
        "fashion-mnist",
        overrides=changes,
        targets={"latency_ms": "5 s", "memory": "1GB"},
        settings=Settings(trials=2),
        families=["mlp"],
        out=tmp_path / "found",
    )
    own = found.trials[0]
    assert own.description.startswith("cnn (width=16, depth=3, convs=1)")
    assert own.figures["latency_ms"] > 0
    assert own.figures["bytes"] > own.figures["parameters"]
    assert own.figures["memory"] > 0

    run = api.run(str(found.recipe), out=tmp_path / "found")
    assert run.results["store"]["used"]
    assert run.models["distilled"]["latency_ms"]["engine"] == "onnxruntime"
