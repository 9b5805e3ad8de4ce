"""`potstill search`: its output, a kill and a second call, several processes on one study."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .shared import call, write_recipe

QUICK = {"seeds": 1, "distill": {"epochs": 3, "batch_size": 32, "lr": 0.01}}
LIMIT = ("--params", "2k", "--runtime", "torch")


def states(folder: Path) -> list[str]:
    """How the trials of a folder's study stand, in Optuna's words."""
    path = folder / "search" / "study.db"
    if not path.exists():
        return []
    try:
        with sqlite3.connect(path, timeout=60) as database:
            return [row[0] for row in database.execute("select state from trials")]
    except sqlite3.OperationalError:  # its tables are being made
        return []


def test_it_prints_the_front_what_to_take_and_why(tmp_path, monkeypatch, capsys) -> None:
    recipe = write_recipe(tmp_path, **QUICK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    code = call(monkeypatch, "search", recipe, *LIMIT, "--trials", "2", "--family", "mlp")
    said = capsys.readouterr().out

    assert code == 0, said
    assert "validation accuracy" in said
    assert "recommended: trial" in said
    assert "of all that keep parameters ≤ 2 k" in said
    assert "asked about 108 samples for the store and about 0 by the trials" in said
    assert "next: potstill run runs/quick-search/search/recommended.yaml" in said
    content = json.loads(Path("runs/quick-search/search/search.json").read_text())
    assert content["format"] == 1
    assert content["limits"] == {"parameters": 2000.0}


def test_resume_wants_something_to_go_on_with(tmp_path, monkeypatch, capsys) -> None:
    recipe = write_recipe(tmp_path, **QUICK)

    code = call(monkeypatch, "search", recipe, "--resume", "--out", tmp_path / "none")

    assert code == 1
    assert "There is no search in" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--latency", "fast"), "--latency 5ms"),
        (("--runtime", "tflite"), "choose onnxruntime, executorch, torch"),
        (("--storage", "nowhere://x"), "an Optuna storage URL"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path, monkeypatch, capsys, words, said) -> None:
    recipe = write_recipe(tmp_path, **QUICK)

    code = call(monkeypatch, "search", recipe, *words, "--out", tmp_path / "none")

    assert code == 1
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_killed_search_goes_on_and_asks_the_lost_values_again(
    tmp_path, monkeypatch, capsys
) -> None:
    long = {"seeds": 1, "distill": {"epochs": 40, "batch_size": 32, "lr": 0.01}}
    recipe, folder = write_recipe(tmp_path, **long), tmp_path / "found"
    words = ("search", recipe, *LIMIT, "--trials", "2", "--out", folder)
    running = subprocess.Popen([sys.executable, "-m", "potstill", *map(str, words)])
    trials = folder / "search" / "trials"
    while running.poll() is None:
        metrics = list(trials.glob("*/metrics.jsonl"))
        if metrics and metrics[0].stat().st_size > 0:
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert states(folder) == ["RUNNING"]

    code = call(monkeypatch, "search", recipe, *LIMIT, "--trials", "2", "--resume", "--out", folder)
    said = capsys.readouterr().out

    assert code == 0, said
    assert "taken up again, their process has ended: trial 0" in said
    content = json.loads((folder / "search" / "search.json").read_text())
    first, again = content["trials"][:2]
    assert first["state"] == "failed"
    assert again["values"] == first["values"]
    assert content["counts"]["done"] + content["counts"]["pruned"] == 2


@pytest.mark.slow
def test_two_processes_work_on_one_study(tmp_path, monkeypatch, capsys) -> None:
    recipe, folder = write_recipe(tmp_path, **QUICK), tmp_path / "found"

    code = call(
        monkeypatch, "search", recipe, *LIMIT, "--trials", "6", "--jobs", "2", "--out", folder
    )
    said = capsys.readouterr().out

    assert code == 0, said
    with sqlite3.connect(folder / "search" / "study.db") as database:
        workers = database.execute(
            "select distinct value_json from trial_user_attributes where key = 'worker'"
        ).fetchall()
    content = json.loads((folder / "search" / "search.json").read_text())
    assert len(workers) == 2
    assert content["counts"]["done"] + content["counts"]["pruned"] >= 6
    assert content["teacher"]["asked_by_trials"] == 0
    numbers = [t["number"] for t in content["trials"]]
    assert numbers == sorted(set(numbers))
