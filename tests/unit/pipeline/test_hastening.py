"""`speed: auto` in whole runs: chosen once, written down, kept when a run goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import potstill
from potstill.build import build
from potstill.errors import Interrupted
from potstill.pipeline import Pipeline, hastening
from potstill.pipeline.ledger import Ledger
from potstill.recipe import parse
from potstill.runtime.fast import EXACT, Choice, State, Trial, choosing
from potstill.teachers import fast
from potstill.teachers.fast import FastTeacher, rebuild
from potstill.train.pace import Pace

PACE = Pace(bf16=True, fused=True)


def _recipe(**changes):
    return parse(
        {
            "name": "quick",
            "data": {"source": "builtin", "name": "digits", "limit": 300},
            "teacher": {"model": {"name": "mlp", "hidden": [32]}, "train": {"epochs": 2}},
            "student": {"model": {"name": "mlp", "hidden": [8], "dropout": 0.2}},
            "distill": {"epochs": 3, "batch_size": 32, "checkpoint_seconds": 0},
            "seeds": 1,
            "export": [],
            "store": "off",
            "measure": {"seconds": 0.1, "energy": False},
            **changes,
        }
    )


def _chosen(name: str, role: str) -> Choice:
    exact = Trial(name=EXACT, state=State.SLOWER, step_seconds=0.2)
    trial = Trial(name=name, state=State.CHOSEN, reason="as the test says", step_seconds=0.1)
    return Choice(role=role, key="k", answers="a", steps=9, trials=(exact, trial))


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Every run chooses a folded bf16 teacher and a bf16 student; who was asked."""
    said: list[str] = []

    def teacher(exact, request):
        said.append("teacher")
        choice = _chosen("bf16 folded", request.name)
        return rebuild(exact, request, [choice]), (choice,)

    def pace(stint):
        said.append(stint.name)
        return _chosen(PACE.name, stint.name), PACE

    monkeypatch.setattr(hastening, "hasten", teacher)
    monkeypatch.setattr(hastening, "choose_pace", pace)
    return said


class _Stops:
    """A `Progress` that interrupts the distilled student after some steps."""

    def __init__(self, after: int) -> None:
        self._after, self._title, self.notes = after, "", []

    def begin(self, title, total_steps, done_steps) -> None:
        self._title = title

    def advance(self, steps_done) -> None:
        if self._title.startswith("distilled") and steps_done == self._after:
            raise Interrupted("stopped by the test")

    def note(self, text) -> None:
        self.notes.append(text)

    def end(self) -> None:
        pass


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "models" / "distilled" / "seed-0" / "model.safetensors")


def test_a_run_writes_down_what_it_chose_and_says_so(asked, tmp_path) -> None:
    progress = _Stops(after=-1)

    run = Pipeline(build(_recipe()), tmp_path, progress=progress).run()

    assert asked == ["training teacher 0", "teacher", "student"]
    kept = json.loads((tmp_path / "speed.json").read_text())["chosen"]
    ways = [c["trials"][1]["name"] for each in kept for c in each["choices"]]
    assert ways == [PACE.name, "bf16 folded", PACE.name]
    assert {s["way"] for s in run.results["speed"]} == {PACE.name, "bf16 folded"}
    assert run.results["speed"][0]["speedup"] == pytest.approx(2.0)
    assert any(
        note.startswith("speed: teacher: bf16 folded, 2.0 times as fast") for note in progress.notes
    )
    assert any("as the test says" in note for note in progress.notes)


def test_a_run_that_goes_on_computes_in_the_same_way(asked, tmp_path, monkeypatch) -> None:
    Pipeline(build(_recipe()), tmp_path / "whole").run()
    with pytest.raises(Interrupted):
        Pipeline(build(_recipe()), tmp_path / "cut", progress=_Stops(after=13)).run()
    asked.clear()
    used: list[str] = []
    signals = FastTeacher.signals

    def seen(self, batch, *, layers=()):
        used.append(self.way)
        return signals(self, batch, layers=layers)

    monkeypatch.setattr(FastTeacher, "signals", seen)
    Pipeline(build(_recipe()), tmp_path / "cut").run()

    assert asked == []
    assert used
    assert all(way.startswith("bf16 folded with") for way in used)
    whole, cut = _weights(tmp_path / "whole"), _weights(tmp_path / "cut")
    assert all(torch.equal(cut[name], value) for name, value in whole.items())


def test_a_finished_run_prepares_nothing(asked, tmp_path, monkeypatch) -> None:
    Pipeline(build(_recipe()), tmp_path).run()

    def refuse(*_: object) -> None:
        raise AssertionError("all stages are done")

    monkeypatch.setattr(fast._ModuleWay, "prepare", refuse)
    ran: list[Ledger] = []
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda self: (ran.append(self), close(self))[0])
    asked.clear()
    Pipeline(build(_recipe()), tmp_path).run()

    assert asked == []
    assert ran[-1].ran == []


def test_exact_asks_nobody_and_gives_the_plain_weights(asked, tmp_path) -> None:
    Pipeline(build(_recipe(speed="exact")), tmp_path / "exact").run()
    assert asked == []
    assert not (tmp_path / "exact" / "speed.json").exists()

    Pipeline(build(_recipe()), tmp_path / "auto").run()
    exact, auto = _weights(tmp_path / "exact"), _weights(tmp_path / "auto")
    assert any(not torch.equal(auto[name], value) for name, value in exact.items())


def test_what_is_measured_of_the_teacher_is_measured_exactly(asked, tmp_path) -> None:
    for speed in ("exact", "auto"):
        Pipeline(build(_recipe(speed=speed, teacher=_GIVEN)), tmp_path / speed).run()

    one, other = (np.load(tmp_path / s / "predictions.npz")["teacher_0"] for s in ("exact", "auto"))
    np.testing.assert_array_equal(one, other)


_GIVEN = {"model": {"source": "sklearn", "name": "random_forest", "n_estimators": 5}}


def test_a_short_run_is_exact_by_itself(tmp_path) -> None:
    run = Pipeline(build(_recipe()), tmp_path).run()

    assert {s["way"] for s in run.results["speed"]} == {EXACT}
    assert all("too few" in str(s["why"]) for s in run.results["speed"])


def test_a_way_that_is_gone_is_chosen_anew(asked, tmp_path) -> None:
    Pipeline(build(_recipe()), tmp_path).run()
    record = tmp_path / "speed.json"
    record.write_text(record.read_text().replace("bf16 folded", "a way of old"))
    asked.clear()

    Pipeline(build(_recipe()), tmp_path).run()

    assert asked == ["teacher"]


def test_a_damaged_record_is_written_anew(asked, tmp_path) -> None:
    Pipeline(build(_recipe()), tmp_path).run()
    (tmp_path / "speed.json").write_text("{")
    asked.clear()

    Pipeline(build(_recipe()), tmp_path).run()

    assert "teacher" in asked


def test_python_takes_the_same_word(asked, tmp_path) -> None:
    x = torch.randn(90, 5, generator=torch.Generator().manual_seed(0))
    data = (x, (x[:, 0] > 0).long())
    settings = potstill.TrainSettings(epochs=1, batch_size=32)

    def student():
        return torch.nn.Linear(5, 2)

    teacher = torch.nn.Linear(5, 2)
    common = {"settings": settings, "seeds": 1}
    potstill.distill(student, teacher, data, speed="exact", out=tmp_path / "exact", **common)
    assert asked == []
    potstill.distill(student, teacher, data, out=tmp_path / "auto", **common)
    assert "student" in asked


def test_a_long_enough_run_measures(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(choosing, "FEWEST_STEPS", 5)

    run = Pipeline(build(_recipe()), tmp_path, cache=tmp_path / "cache.json").run()

    assert not [s for s in run.results["speed"] if "too few" in str(s["why"])]
    assert json.loads((tmp_path / "cache.json").read_text())["choices"]
