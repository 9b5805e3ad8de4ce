"""What is printed where there is no terminal: tables whole, long work with the time left."""

import itertools

import pytest

from potstill.cli import screen
from potstill.cli.screen import Screen, show_table


def test_a_table_that_goes_to_a_file_is_not_cut(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [[f"column {n} with a long name" for n in range(9)], [f"cell {n}" for n in range(9)]]

    show_table(rows)

    printed = capsys.readouterr().out
    assert all(cell in printed for row in rows for cell in row)
    assert "…" not in printed


def said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seconds: list[float],
    *,
    total: int,
    done: int = 0,
) -> list[str]:
    """The lines of a training whose steps took so long each."""
    clock = itertools.accumulate([0.0, *seconds])
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    shown = Screen()
    shown.begin("student", total, done)
    for step in range(len(seconds)):
        shown.advance(done + step + 1)
    shown.end()
    return capsys.readouterr().out.splitlines()


def test_the_time_left_is_that_of_the_steps_after_the_first(monkeypatch, capsys) -> None:
    lines = said(monkeypatch, capsys, [50.0, 1.0, *[1.0] * 10], total=100)

    assert lines[0] == "student: 100 steps"
    assert lines[1] == "student: 2%, about 2 min left"
    assert "student: 12%, about 88 s left" in lines


def test_a_line_comes_every_ten_seconds(monkeypatch, capsys) -> None:
    lines = said(monkeypatch, capsys, [1.0] * 35, total=1000, done=500)

    assert lines[0] == "student: 1000 steps, going on at 500"
    assert [line.split(",")[0] for line in lines[1:]] == [
        "student: 51%",
        "student: 52%",
        "student: 53%",
    ]


def test_one_step_is_told_when_it_is_done(monkeypatch, capsys) -> None:
    assert said(monkeypatch, capsys, [20.0], total=1) == [
        "student: 1 steps",
        "student: 100%, about 0 s left",
    ]
