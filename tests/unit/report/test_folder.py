"""What is read from a run folder, and how broken ones are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from potstill.errors import StorageError
from potstill.report.answers import read_answers
from potstill.report.folder import read_folder

from .fake_run import change, write_run


def test_a_folder_without_any_run_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"not a run folder.*potstill run"):
        read_folder(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not a run folder"):
        read_folder(tmp_path / "nowhere")


def test_a_newer_format_names_both_formats_and_the_upgrade(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    change(folder / "results.json", format=2)

    with pytest.raises(StorageError, match=r"format 2 .* format 1.*pip install -U potstill"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["results.json", "environment.json", "stages.json"])
def test_broken_json_names_the_file_and_the_line(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    (folder / name).write_text('{\n"format": 1,\n', encoding="utf-8")

    with pytest.raises(StorageError, match=rf"{name}.*not valid JSON \(line"):
        read_folder(folder)


def test_json_that_is_not_an_object_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    (folder / "results.json").write_text("[1, 2]", encoding="utf-8")

    with pytest.raises(StorageError, match="list where an object was expected"):
        read_folder(folder)


def test_a_wrong_type_names_the_key(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    change(folder / "results.json", seeds="three")

    with pytest.raises(StorageError, match=r"`seeds` = 'three'"):
        read_folder(folder)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    whole = (folder / "predictions.npz").read_bytes()
    (folder / "predictions.npz").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(StorageError, match=r"predictions\.npz.*cannot be read"):
        read_folder(folder)


def test_pickled_arrays_are_not_unpickled(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    np.savez(folder / "samples.npz", ids=np.array([{"a": 1}], dtype=object))

    with pytest.raises(StorageError, match=r"samples\.npz"):
        read_folder(folder)


def test_answers_of_different_lengths_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    labels, teacher = np.zeros(5, dtype=np.int64), np.zeros((4, 10), dtype=np.float32)
    np.savez(folder / "predictions.npz", labels=labels, teacher_0=teacher)

    with pytest.raises(StorageError, match="4 rows in `teacher_0` and 5 in `labels`"):
        read_answers(read_folder(folder))


def test_a_last_line_cut_by_a_kill_is_dropped(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    whole = len(read_folder(folder).history)
    (folder / "metrics.jsonl").write_text(lines + '{"role": "dist', encoding="utf-8")

    assert len(read_folder(folder).history) == whole


def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    (folder / "metrics.jsonl").write_text('{"role": "dist\n' + lines, encoding="utf-8")

    with pytest.raises(StorageError, match="broken at line 1"):
        read_folder(folder)


def test_numbers_that_are_not_finite_are_absent(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    content["verdict"]["gap_recovered"] = float("nan")
    content["models"]["teacher"]["flops"] = float("inf")
    content["models"]["teacher"]["test"]["accuracy"]["ci95"] = [float("nan"), 1.0]
    (folder / "results.json").write_text(json.dumps(content), encoding="utf-8")

    results = read_folder(folder).results

    assert results is not None
    assert results.verdict is not None
    assert results.verdict.gap_recovered is None
    assert results.models["teacher"].flops is None
    assert results.models["teacher"].test["accuracy"].ci95 is None


def test_stages_are_read_as_a_mapping_and_as_a_list(tmp_path: Path) -> None:
    stage = {"hash": "a", "state": "done", "seconds": 2.5}
    for stages in ({"teacher": stage}, [{"name": "teacher", **stage}]):
        content = json.dumps({"format": 1, "stages": stages})
        (tmp_path / "stages.json").write_text(content, encoding="utf-8")

        (found,) = read_folder(tmp_path).stages

        assert (found.name, found.state, found.seconds) == ("teacher", "done", 2.5)
