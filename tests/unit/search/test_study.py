"""Studies: values are drawn, limits learnt, several processes share one, the dead are noticed."""

import os
import sys
from pathlib import Path

import pytest

from potstill.errors import MissingExtra, StorageError
from potstill.search import Choice, Knob, Space, State, Study, Trial, count
from potstill.search.door import optuna

SPACE = Space(
    choices=(
        Choice(
            name="family",
            branches={
                "mlp": (Knob(name="width", low=1, high=64, log=True, whole=True),),
                "cnn": (Knob(name="depth", low=1, high=4, whole=True),),
            },
        ),
    ),
    knobs=(Knob(name="lr", low=1e-4, high=1e-1, log=True),),
)


def a_study(folder: Path, **changes: object) -> Study:
    settings = {"storage": f"sqlite:///{folder / 'study.db'}", "name": "s", "key": "k", **changes}
    return Study(SPACE, higher_is_better=True, **settings)


def finish(study: Study, *, score: float | None = None, cost: float = 1.0, limit: float = 1e9):
    asked = study.ask()
    width = asked.values.get("mlp.width", 4)
    found = Trial(
        number=asked.number,
        state=State.DONE if cost <= limit else State.REFUSED,
        values=asked.values,
        figures={"parameters": cost},
        score=float(width) if score is None else score,
        curve={1: 0.25, 2: 0.5},
    )
    study.tell(asked, found, cost=cost, excess={"parameters": cost / limit - 1})
    return found


def test_a_branch_brings_its_own_knobs_and_what_is_told_is_read_back(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    told = [finish(study) for _ in range(8)]

    known = study.trials()

    assert known == told
    for trial in known:
        branch = trial.values["family"]
        assert set(trial.values) == {
            "family",
            "lr",
            f"{branch}.{'width' if branch == 'mlp' else 'depth'}",
        }
    assert len({tuple(t.values.items()) for t in known}) == 8, "every draw is another one"
    shares = study.importance()
    assert set(shares) == {"score", "cost"}
    assert sum(shares["score"].values()) == pytest.approx(1)
    assert "lr" not in shares["cost"], "a rate changes no size"


def test_refused_shapes_teach_the_sampler(tmp_path: Path) -> None:
    study = a_study(tmp_path, startup=8)
    widths = []
    for _ in range(26):
        asked = study.ask()
        cost = float(asked.values.get("mlp.width", 64))
        state = State.DONE if cost <= 8 else State.REFUSED
        found = Trial(number=asked.number, state=state, values=asked.values, score=0.5)
        study.tell(asked, found, cost=cost, excess={"parameters": cost / 8 - 1})
        widths.append(cost)

    early, late = sum(w <= 8 for w in widths[:8]), sum(w <= 8 for w in widths[-8:])
    assert late > early
    assert count(study.trials(), State.REFUSED) == sum(w > 8 for w in widths)


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    one, other = a_study(tmp_path), a_study(tmp_path)

    finish(one)
    finish(other)

    assert [t.number for t in one.trials()] == [0, 1]
    assert one.trials() == other.trials()


def test_values_that_are_queued_come_first(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    values = {"family": "mlp", "mlp.width": 7, "lr": 0.01}
    study.enqueue(values)
    study.enqueue(values)

    assert dict(study.ask().values) == values
    assert dict(study.ask().values) != values, "once"


def test_a_trial_whose_process_died_is_asked_again(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    mine, lost = study.ask(), study.ask()
    lost.trial.set_user_attr("worker", f"{os.uname().nodename}:{2**22 + 1}")  # no such process

    assert study.take_up() == [lost.number]
    assert dict(study.ask().values) == dict(lost.values)
    states = {t.number: t.state for t in study.trials()}
    assert states[lost.number] is State.FAILED
    assert states[mine.number] is State.RUNNING, "this process lives"


def test_another_search_in_the_same_place_is_refused(tmp_path: Path) -> None:
    a_study(tmp_path)

    with pytest.raises(StorageError, match="is of another search"):
        a_study(tmp_path, key="another")
    with pytest.raises(StorageError, match="Optuna storage URL"):
        a_study(tmp_path, storage="nowhere://x")


def test_without_optuna_the_command_that_installs_it_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(MissingExtra, match=r"pip install 'potstill\[search\]'"):
        optuna()


def test_a_password_in_a_storage_url_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as refusal:
        a_study(tmp_path, storage="nowhere://me:secret@host/db")

    assert "secret" not in str(refusal.value)
    assert "me:…@host" in str(refusal.value)
