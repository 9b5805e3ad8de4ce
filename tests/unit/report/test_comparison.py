"""Runs beside each other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.errors import StorageError
from potstill.report import compare
from potstill.report.folder import read_folder
from potstill.report.many_runs import latency_scatters

from .fake_run import write_run
from .test_page import EVIL, Outline

FolderOf = Callable[[str], Path]


def test_a_row_says_what_a_run_says(folder_of: FolderOf) -> None:
    found = compare([folder_of("image")])

    (row,) = found.rows
    cells = dict(zip(found.columns, row, strict=True))
    assert cells["Run"] == "digits"
    assert cells["Distilled"] == "93.37% ± 0.61"
    assert cells["Gain"] == "+2.97"
    assert cells["p"] == "0.016"
    assert cells["Helped"] == "yes"
    assert found.summary == "Distillation helped in 1 of 1 run."
    assert found.notes == ()


def test_rows_keep_the_given_order(folder_of: FolderOf) -> None:
    found = compare([folder_of("table"), folder_of("image")])

    assert [row[0] for row in found.rows] == ["breast-cancer", "digits"]


def test_what_cannot_be_compared_is_said(folder_of: FolderOf, tmp_path: Path) -> None:
    found = compare([folder_of("image"), folder_of("regression"), write_run(tmp_path, seeds=(0,))])

    assert any("different metrics: Accuracy, Root mean squared error" in n for n in found.notes)
    assert any("different data: digits, strength" in note for note in found.notes)
    assert any("different numbers of seeds: 1, 5" in note for note in found.notes)
    assert all(note in Outline(found.html).words for note in found.notes)


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, seeds=(0, 1)) for name in ("first", "second")]

    assert [row[0] for row in compare(folders).rows] == ["first", "second"]


def test_an_unfinished_run_is_named_as_such(folder_of: FolderOf, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: later\n", encoding="utf-8")

    found = compare([folder_of("image"), tmp_path])

    assert found.rows[1][1] == "not finished"
    assert len(found.rows[1]) == len(found.columns)
    assert compare([tmp_path]).summary == "None of these runs has a verdict yet."


def test_zero_lies_on_the_scale_of_the_gains(folder_of: FolderOf) -> None:
    page = compare([folder_of("image")]).html
    place = float(page.split('class="zero" style="left:')[1].split("%")[0])

    assert 0 <= place <= 100
    assert Outline(page).headings[1] == (2, "Gain: Accuracy, in percentage points")


def test_names_stay_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1), name=EVIL)

    found = compare([folder])

    assert EVIL not in found.html
    assert EVIL not in found.markdown
    assert "<script" not in found.markdown


def test_every_model_of_every_run_is_a_point(folder_of: FolderOf) -> None:
    runs = [read_folder(folder_of(kind)) for kind in ("image", "table", "regression")]
    named = [(run.path.name, run.results) for run in runs]

    accuracy, error = latency_scatters(named)

    assert [len(trace["x"]) for trace in accuracy.traces] == [2, 2, 2]
    assert accuracy.rows[0][:2] == ("image", "Teacher")
    assert "down and to the left" in error.note
    teacher = accuracy.traces[0]
    assert teacher["x"][0] == runs[0].results.models["teacher"].latency_ms.p50
    assert teacher["text"][0].startswith("<b>image</b>, teacher<br>")


def test_both_files_are_saved(folder_of: FolderOf, tmp_path: Path) -> None:
    html, markdown = compare([folder_of("image")]).save(tmp_path / "new")

    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert markdown.read_text(encoding="utf-8").startswith("## Runs compared")


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(StorageError, match="Name at least one run folder"):
        compare([])
