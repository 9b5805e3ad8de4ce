"""`potstill measure` and `potstill try` from the command line."""

import json
import threading
import urllib.request
from pathlib import Path

import pytest
from tests.unit.tryout.tiny import write_run

from potstill import api

from .shared import arrays, call, write_recipe

QUICK = ("--seconds", "0.05", "--starts", "0", "--energy", "0.01", "--watts", "5")


def test_a_run_is_measured_and_compared_with_a_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, board = write_run(tmp_path / "run"), tmp_path / "board.json"
    monkeypatch.setenv("COLUMNS", "200")

    files = [run / "export" / f"{name}.onnx" for name in ("teacher", "distilled")]
    assert call(monkeypatch, "measure", *files, *QUICK, "--name", "b", "--save-profile", board) == 0
    capsys.readouterr()
    assert call(monkeypatch, "measure", run, *QUICK, "--name", "d", "--device-profile", board) == 0

    shown = capsys.readouterr().out
    assert "d: batch 1, 1 thread" in shown
    assert "times as fast as teacher" in shown
    assert "there/here" in shown
    kept = json.loads((run / "measure.json").read_text())["devices"]
    assert [device["name"] for device in kept] == ["d", "b"]
    assert "d: batch 1, 1 thread" in (run / "report.html").read_text()


def test_json_is_for_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path)

    assert call(monkeypatch, "measure", run, *QUICK, "--batch", "1,2", "--json") == 0

    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "device-profile"
    assert [f["batch"] for f in found["figures"]] == [1, 1, 1, 2, 2, 2]
    assert found["compared"] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch", "one"], "--batch is 'one'; give whole numbers"),
        (["--runtime", "tensorrt"], "'tensorrt' is no runtime"),
        (["--threads", "0"], "whole numbers from 1 on"),
        (["--device-profile", "none.json"], "There is no device profile none.json"),
    ],
)
def test_bad_options_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    assert call(monkeypatch, "measure", write_run(tmp_path), *words) == 1
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_run_is_tried_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("potstill.tryout.server.TryServer.serve", interrupted)

    assert call(monkeypatch, "try", write_run(tmp_path)) == 0

    assert opened[0].startswith("http://127.0.0.1:")
    assert "Stopped." in capsys.readouterr().out


def test_models_that_were_not_exported_are_asked_in_torch(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, content=arrays(rows=60), seeds=1, speed="exact", store="off")
    run = api.run(str(recipe), out=tmp_path / "run")
    notes: list[str] = []

    server = api.try_run(run, note=notes.append)
    thread = threading.Thread(target=server.serve)
    thread.start()
    question = json.dumps({"kind": "sample", "number": 0}).encode()
    asked = urllib.request.Request(f"{server.address}ask", question, {"X-Potstill-Key": server.key})
    with urllib.request.urlopen(asked) as response:
        found = json.loads(response.read())
    server.stop()
    thread.join()

    assert [a["name"] for a in found["answers"]] == ["teacher", "distilled", "scratch"]
    assert {a["engine"] for a in found["answers"]} == {"torch"}
    assert notes == []
