"""What is logged in the run folder is also sent to the loggers that a recipe names."""

import json

import pytest
import torch
from torch import nn

import potstill
from potstill.errors import MissingExtra, RecipeError
from potstill.recipe import parse
from potstill.runtime.fabric import Runtime
from potstill.runtime.tracking import make_loggers


def trained(folder, *, track: str) -> list[dict[str, object]]:
    """The lines of the log of a short training that sends its figures to a logger."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 4), torch.arange(64) % 2
    runtime = Runtime(device="cpu", loggers=make_loggers([track], run="small", folder=folder))
    distiller = potstill.Distiller(
        nn.Linear(4, 2),
        settings=potstill.TrainSettings(epochs=3, batch_size=16),
        runtime=runtime,
    )
    from potstill.data import from_arrays

    data = from_arrays(x.numpy(), y.numpy(), kind="table")
    feed = potstill.data.Feed(samples=data.train, batch_size=16, seed=0, normalise=data.normalise)
    distiller.fit(feed, role="scratch", folder=folder)
    runtime.close()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_gets_what_the_log_has(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = trained(tmp_path, track="tensorboard")

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (tag,) = [t for t in events.Tags()["scalars"] if t.endswith("loss")]
    sent = [(event.step, pytest.approx(event.value, rel=1e-6)) for event in events.Scalars(tag)]
    logged = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert len(sent) == 3
    assert logged == sent


def test_a_logger_that_is_not_installed_names_the_extra(tmp_path, monkeypatch) -> None:
    import importlib

    real = importlib.import_module

    def absent(name: str, *rest: object) -> object:
        if name == "mlflow":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"potstill\[track\]"):
        make_loggers(["mlflow"], run="small", folder=tmp_path)


def test_a_logger_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RecipeError, match="track"):
        parse({"name": "a", "data": {"source": "builtin"}, "track": ["tensorbord"]})
