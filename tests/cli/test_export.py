"""`potstill export`: more forms of a run's student, and whether a file is sound."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import potstill
from potstill.data import from_arrays
from potstill.errors import ExportError, RecipeError
from potstill.export.formats import Bound
from potstill.models.weights import read_weights
from potstill.recipe import load, parse

from .shared import call, write_recipe

QUICK = {"distill": {"epochs": 1}, "seeds": 1, "store": "off", "speed": "exact"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    recipe = write_recipe(
        folder,
        **QUICK,
        measure={"seconds": 0.05, "energy": False},
        export=["onnx-int8"],
        parity={"int8": {"difference": 1.0, "agreement": 0.5}},
    )
    potstill.run(str(recipe), out=folder / "run")
    return folder / "run"


def test_a_run_ships_what_its_recipe_names(finished: Path) -> None:
    shipped = potstill.Run(finished).models["distilled"]["artefacts"]

    assert [one["file"] for one in shipped] == ["distilled.onnx", "distilled-int8.onnx"]
    assert all(one["bytes"] > 0 and one["agreement"] >= 0.5 for one in shipped)
    for page in ("report.html", "report.md"):
        assert "distilled-int8.onnx" in (finished / page).read_text(encoding="utf-8")
    card = (finished / "export" / "README.md").read_text(encoding="utf-8")
    assert "| `distilled-int8.onnx` | onnx-int8 | int8 |" in card
    assert (finished / "export" / "example.py").read_text() in card


def test_further_forms_are_added(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call(monkeypatch, "export", finished, "--format", "safetensors", "--json")

    listed = json.loads(capsys.readouterr().out)["artefacts"]
    files = [one["file"] for one in listed]
    assert code == 0
    assert files == ["distilled.onnx", "distilled-int8.onnx", "distilled.safetensors"]
    told = potstill.Run(finished).models["distilled"]["artefacts"]
    assert [one["file"] for one in told] == files
    assert isinstance(potstill.load(finished / "export" / "distilled.safetensors"), nn.Module)


def test_another_role_goes_to_another_folder(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (finished / "results.json").read_bytes()
    words = ("--role", "scratch", "--format", "torch", "--out", tmp_path / "out")

    assert call(monkeypatch, "export", finished, *words) == 0

    assert (finished / "results.json").read_bytes() == before
    assert (tmp_path / "out" / "scratch.pt2").is_file()
    assert "# mlp (quick, scratch)" in (tmp_path / "out" / "README.md").read_text()


def test_check_refuses_what_was_altered(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished / "export" / "distilled-int8.onnx"
    assert call(monkeypatch, "export", "--check", path) == 0
    assert "sound (onnx-int8, int8, seed 0)" in capsys.readouterr().out

    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    code = call(monkeypatch, "export", "--check", path)
    path.write_bytes(whole)

    assert code == 1
    assert "corrupt or was altered" in capsys.readouterr().err


def test_a_broken_bound_is_an_error_and_the_rest_is_there(finished: Path, tmp_path: Path) -> None:
    bounds = {"int8": Bound(difference=1e-9, agreement=1.0)}

    with pytest.raises(ExportError, match="1 of 2 forms were not shipped"):
        potstill.export_run(finished, ["onnx", "onnx-int8"], out=tmp_path, bounds=bounds)

    assert (tmp_path / "distilled.onnx").is_file()
    assert not (tmp_path / "distilled-int8.onnx").exists()


def test_what_is_missing_is_said(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert call(monkeypatch, "export") == 1
    assert "needs a run folder, or --check FILE" in capsys.readouterr().err
    assert call(monkeypatch, "export", finished, "--format", "onxx") == 1
    assert "'onxx' is no form; the forms are onnx, onnx-fp16" in capsys.readouterr().err
    with pytest.raises(ExportError, match="no role 'assistant'; it has teacher"):
        potstill.export_run(finished, ["onnx"], role="assistant")


def test_a_run_without_a_recipe_needs_its_data(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(120, 4, generator=generator)
    labels = (rows[:, 0] > 0).long()
    teacher, student = nn.Linear(4, 2), nn.Linear(4, 2)
    run = potstill.distill(
        student,
        teacher,
        (rows, labels),
        settings=potstill.TrainSettings(epochs=1),
        seeds=1,
        speed="exact",
        out=tmp_path / "run",
    )

    with pytest.raises(RecipeError, match=r"holds no recipe\.yaml.*data=…"):
        potstill.export_run(run, ["torch"])
    data = from_arrays(rows, labels)
    trained = nn.Linear(4, 2)
    trained.load_state_dict(
        read_weights(tmp_path / "run" / "models" / "distilled" / "seed-0" / "model.safetensors")
    )

    folder = potstill.export_run(run, ["torch"], data=data, student=trained)

    assert (folder / "distilled.pt2").is_file()


def test_forms_that_a_task_does_not_have_are_refused_in_the_recipe(tmp_path: Path) -> None:
    from potstill.build import build

    recipe = load(str(write_recipe(tmp_path)))
    content = {**recipe.model_dump(mode="json"), "export": ["onnxx"]}
    with pytest.raises(RecipeError, match=r"`export\.0`: input should be 'auto', 'onnx'"):
        parse(content)
    named = recipe.model_copy(update={"export": ("auto", "executorch")})
    assert build(named).export == ("onnx", "executorch")
