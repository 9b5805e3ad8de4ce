"""Whatever is wrong gets one sentence with the next step and exit code 1, before any training."""

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .shared import arrays, call, write_recipe

TINY_TEACHER = {"model": {"name": "mlp", "hidden": [4]}, "train": {"epochs": 1}}


def fails(monkeypatch, capsys, *words: object) -> str:
    """The one message of a command that fails as foreseen."""
    code = call(monkeypatch, *words)
    said = capsys.readouterr()
    assert code == 1, said.err
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    return " ".join(said.err.split())


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("distill.epoch=3", ["distill.epoch", "did you mean `epochs`"]),  # a misspelt key
        ("distill.epochs=many", ["distill.epochs", "integer", "many"]),  # a wrong type
        ("distill.lr=-1", ["distill.lr", "greater than 0"]),  # out of range
        ("data.path=nowhere.npz", ["nowhere.npz"]),  # a missing file
        ("data.pth=x.npz", ["pth", "path"]),  # a misspelt option of a source
        ("student.model.name=mpl", ["mpl", "mlp"]),  # an unknown model
        ("student.model.hiden=[3]", ["hiden", "hidden"]),  # an unknown option of a model
        ("distill.objective=[{term: kdd}]", ["kdd", "kd"]),  # an unknown term
        ("distill.objective=[{term: kd, temp: 2}]", ["temp", "temperature"]),  # its option
        ("distill.objective=[]", ["objective", "empty"]),  # nothing to minimise
        ("distill.augment=[{op: jiter}]", ["jiter", "jitter"]),  # an unknown augmentation
        ("data.validation=0", ["validation"]),  # an empty validation split
        ("data.validation=1.0", ["validation"]),  # an empty training split
        ("teacher.train=null", ["random weights", "teacher.train"]),  # nobody to learn from
        ("teacher.model.source=sklearn", ["estimator"]),  # an estimator that does not exist
        ("student.model={source: python, name: 'os:getcwd'}", ["--trust"]),  # code
        ("student.model={source: sklearn, name: xgboost}", ["student", "decision_tree"]),
        ("seeds=[1,1]", ["seeds", "twice"]),
        ("distill", ["distill", "="]),  # no value
    ],
)
def test_a_wrong_recipe_is_one_sentence(
    tmp_path, monkeypatch, capsys, override: str, expected: list[str]
) -> None:
    recipe = write_recipe(tmp_path)

    said = fails(monkeypatch, capsys, "run", recipe, override, "--out", tmp_path / "run")

    assert all(part in said for part in expected), said
    assert not (tmp_path / "run" / "models").exists()


def changed(**parts: np.ndarray) -> dict[str, np.ndarray]:
    return {**arrays(), **parts}


def with_nan() -> np.ndarray:
    table = arrays()["x_train"].copy()
    table[7, 2] = np.nan
    return table


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (changed(y_train=np.zeros(120, int), y_test=np.zeros(60, int)), ["class"]),  # one class
        (changed(y_train=np.arange(120) % 3 - 1), ["-1"]),  # labels below 0
        (
            changed(y_test=np.arange(60) % 9),
            ["class 3", "0 to 2"],
        ),  # a class that training does not have
        (changed(x_train=with_nan()), ["nan in row 7, column 2"]),  # NaN, with its place
        (changed(y_train=np.arange(119) % 3), ["120", "119"]),  # a label too few
        ({"x": np.zeros((4, 2))}, ["has no member", "keys:"]),  # no such member
    ],
)
def test_wrong_data_are_one_sentence(tmp_path, monkeypatch, capsys, content, expected) -> None:
    recipe = write_recipe(tmp_path, content=content)

    said = fails(monkeypatch, capsys, "run", recipe, "--out", tmp_path / "run")

    assert all(part in said for part in expected), said


def test_images_of_unequal_size_name_both_and_the_way_out(tmp_path, monkeypatch, capsys) -> None:
    for number in range(12):
        folder = tmp_path / "images" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        size = (8, 8) if number else (9, 8)
        Image.new("L", size, color=number).save(folder / f"{number}.png")
    data = {"source": "hf", "path": str(tmp_path / "images")}
    recipe = write_recipe(tmp_path, data=data)

    said = fails(monkeypatch, capsys, "run", recipe, "--out", tmp_path / "run")

    assert "resize" in said
    assert "9" in said


def test_a_teacher_with_other_classes_names_the_label_map(tmp_path, monkeypatch, capsys) -> None:
    first = write_recipe(tmp_path, content=arrays(classes=5), teacher=TINY_TEACHER, seeds=1)
    assert call_ok(monkeypatch, "run", first, "--out", tmp_path / "five")
    capsys.readouterr()
    teacher = {
        "model": {
            "source": "file",
            "name": str(tmp_path / "five" / "models" / "teacher" / "seed-0"),
            "num_outputs": 5,
        }
    }
    second = write_recipe(tmp_path, teacher=teacher, seeds=1)

    said = fails(monkeypatch, capsys, "run", second, "--out", tmp_path / "three")

    assert "3 outputs" in said
    assert "the teacher 5" in said
    assert "label_map" in said
    with_map = f"{second} teacher.label_map=[4,0,2]".split()
    assert call_ok(monkeypatch, "run", *with_map, "--out", tmp_path / "mapped")


def call_ok(monkeypatch, *words: object) -> bool:
    """Whether a command succeeds; success ends without `SystemExit` of another code."""
    return call(monkeypatch, *words) == 0


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    recipe = write_recipe(tmp_path)

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    monkeypatch.setattr("potstill.models.weights.save_file", full)

    said = fails(monkeypatch, capsys, "run", recipe, "--out", tmp_path / "run")

    assert "space" in said


def test_a_file_where_the_folder_should_be_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "taken").write_text("")

    said = fails(monkeypatch, capsys, "run", recipe, "--out", tmp_path / "taken")

    assert "--out" in said


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    recipe = write_recipe(tmp_path)

    said = fails(monkeypatch, capsys, "run", recipe, "--out", "/proc/potstill")

    assert "/proc/potstill" in said


def test_an_unknown_recipe_names_the_nearest(tmp_path, monkeypatch, capsys) -> None:
    said = fails(monkeypatch, capsys, "run", "digitss")

    assert "Did you mean 'digits'" in said


def test_a_run_folder_that_is_none_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    fails(monkeypatch, capsys, "report", tmp_path)


def test_broken_stages_are_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    recipe = write_recipe(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "stages.json").write_text("{")

    said = fails(monkeypatch, capsys, "run", recipe, "--out", folder)

    assert "stages.json" in said


def test_a_second_process_in_a_folder_is_refused(tmp_path, monkeypatch, capsys) -> None:
    from potstill.pipeline.ledger import Ledger

    recipe = write_recipe(tmp_path)
    ledger = Ledger(tmp_path / "run")

    said = fails(monkeypatch, capsys, "run", recipe, "--out", tmp_path / "run")

    assert "Another Potstill process" in said
    ledger.close()


def test_a_loss_that_explodes_stops_with_the_batch_saved(tmp_path, monkeypatch, capsys) -> None:
    recipe = write_recipe(tmp_path)

    said = fails(
        monkeypatch, capsys, "run", recipe, "--out", tmp_path / "run",
        "distill.lr=1e30", "distill.optimizer=sgd", "distill.epochs=20",
    )  # fmt: skip

    assert "inf or NaN" in said or "not finite" in said
    assert "learning rate" in said
    assert list(Path(tmp_path / "run").glob("bad-batch-*"))


def test_a_wrong_option_of_the_command_is_usage(monkeypatch) -> None:
    assert call(monkeypatch, "run", "digits", "--no-such-option") == 2
