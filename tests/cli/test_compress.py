"""`potstill compress`: a run's models to one size, in all ways; resumed, refused, shown."""

import json
import shutil
from pathlib import Path

import onnx
import pytest

from potstill.models import load_model
from potstill.models.pruned import sizes_of

from .shared import call, write_recipe

WAYS = ["distil", "distil+prune+quantise"]
SIZES = {
    "teacher": {"model": {"name": "mlp", "hidden": [64, 64]}, "train": {"epochs": 4, "lr": 0.01}},
    "student": {"model": {"name": "mlp", "hidden": [48, 48]}},
    "distill": {"epochs": 4, "batch_size": 32, "lr": 0.01},
    "compress": {"to": "6kB", "epochs": 2, "steps": 2, "rows": 32, "ways": WAYS},
    "seeds": 1,
    "speed": "exact",
}


@pytest.fixture(scope="module")
def squeezed(tmp_path_factory) -> Path:
    """A folder with a recipe and a run whose models were squeezed."""
    folder = tmp_path_factory.mktemp("compress")
    recipe = write_recipe(folder, **SIZES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call(patch, "compress", recipe, "compress.importance=taylor") == 0
    return folder


@pytest.fixture(scope="module")
def record(squeezed) -> dict:
    return json.loads((squeezed / "runs" / "quick" / "compress.json").read_text())


def test_all_ways_stand_beside_each_other_at_one_size(record) -> None:
    assert record["target_bytes"] == 6000
    assert record["skipped"] == []
    assert [(way["way"], way["teacher"]) for way in record["ways"]] == [
        (name, taught) for name in WAYS for taught in (True, False)
    ]
    for way in record["ways"]:
        name = way["way"]
        assert way["reaches"], name
        assert way["bytes"] <= 6300, name
        assert way["compression"] == record["references"]["teacher"]["bytes"] / way["bytes"]
        assert way["latency_ms"]["engine"] == "onnxruntime"
        assert len(way["test"]["accuracy"]["values"]) == 1
    assert {due["way"] for due in record["due_to_teacher"]} == set(WAYS)
    layers = [each["layer"] for each in record["sensitivity"]["table"]["layers"]]
    assert len(layers) == 3
    assert record["best"]["way"] in WAYS


def test_a_gain_is_the_difference_of_the_two_rows(record) -> None:
    means = {(w["way"], w["teacher"]): w["test"]["accuracy"]["mean"] for w in record["ways"]}

    for due in record["due_to_teacher"]:
        name = due["way"]
        expected = means[name, True] - means[name, False]
        assert due["gain"]["mean"] == pytest.approx(expected)


def test_files_are_what_the_record_says(squeezed, record) -> None:
    run = squeezed / "runs" / "quick"
    for way in record["ways"]:
        path = run / way["files"]["0"]
        kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
        assert path.stat().st_size == way["bytes"]
        assert ("QuantizeLinear" in kinds) == ("quantise" in way["way"])


def test_pruned_models_are_rebuilt_from_their_folders(squeezed, record) -> None:
    models = squeezed / "runs" / "quick" / "compressed" / "models"
    pruned, config = load_model(models / "distil-prune-quantise-with-step-2" / "seed-0")
    whole, _ = load_model(squeezed / "runs" / "quick" / "models" / "distilled" / "seed-0")

    assert config.source == "pruned"
    assert sizes_of(pruned) != sizes_of(whole)
    row = next(w for w in record["ways"] if w["way"] == "distil+prune+quantise" and w["teacher"])
    assert sum(p.numel() for p in pruned.parameters()) == row["parameters"]
    assert not list(models.rglob("*.pt"))
    assert not list(models.rglob("*.pkl"))


def test_the_report_and_a_table_show_it(squeezed) -> None:
    run = squeezed / "runs" / "quick"

    assert 'id="squeezed"' in (run / "report.html").read_text()
    for page in ("report.md", "compress.md"):
        assert "| distil+prune+quantise | without |" in (run / page).read_text()


def test_the_same_command_again_trains_nothing(squeezed, tmp_path, monkeypatch, capsys) -> None:
    folder = shutil.copytree(squeezed, tmp_path / "copy")
    monkeypatch.chdir(folder)
    run = folder / "runs" / "quick"
    before = json.loads((run / "compress.json").read_text())

    code = call(monkeypatch, "compress", run, "compress.importance=taylor")
    said = capsys.readouterr().out

    assert code == 0, said
    assert "steps" not in said
    assert "writing" not in said
    after = json.loads((run / "compress.json").read_text())
    assert after == before


def test_what_a_kill_left_undone_is_all_that_is_done(
    squeezed, tmp_path, monkeypatch, capsys
) -> None:
    folder = shutil.copytree(squeezed, tmp_path / "copy")
    monkeypatch.chdir(folder)
    run = folder / "runs" / "quick"
    before = json.loads((run / "compress.json").read_text())
    shutil.rmtree(run / "compressed" / "models" / "distil-prune-quantise-with-step-2")
    shutil.rmtree(run / "compressed" / "files" / "distil-prune-quantise-with")

    code = call(monkeypatch, "compress", run, "compress.importance=taylor", "--json")
    after = json.loads(capsys.readouterr().out)

    assert code == 0
    stages = json.loads((run / "compressed" / "stages.json").read_text())["stages"]
    assert "distil-prune-quantise-with-step-2/0" in stages
    for old, new in zip(before["ways"], after["ways"], strict=True):
        assert old["test"] == new["test"], old["way"]


def test_a_size_that_no_way_meets_is_said_before_training(
    squeezed, tmp_path, monkeypatch, capsys
) -> None:
    folder = shutil.copytree(squeezed, tmp_path / "copy")
    monkeypatch.chdir(folder)

    code = call(monkeypatch, "compress", "runs/quick", "--to", "100B")
    said = capsys.readouterr()

    assert code == 1
    assert "No way meets 100 bytes: the nearest is" in said.err
    assert "Ask for --to" in said.err
    assert "steps" not in said.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "much"], "'much' is no size; write for example 250kB"),
        (["--to", "6kB", "--ratio", "3"], "say the same size twice"),
        (["--ways", "prune,shrink"], "distil+prune+quantise"),
        (["--to", "6kB", "compress.rows=0"], "compress.rows"),
    ],
)
def test_bad_wishes_are_sentences(squeezed, monkeypatch, capsys, words, sentence) -> None:
    monkeypatch.chdir(squeezed)

    code = call(monkeypatch, "compress", "quick.yaml", *words)

    assert code == 1
    assert sentence in capsys.readouterr().err


def test_a_folder_without_a_recipe_is_a_sentence(tmp_path, monkeypatch, capsys) -> None:
    code = call(monkeypatch, "compress", tmp_path)

    assert code == 1
    assert "holds no recipe.yaml" in capsys.readouterr().err


def test_weights_become_zero_where_they_are(squeezed, monkeypatch) -> None:
    monkeypatch.chdir(squeezed)
    shutil.copytree("runs/quick", "runs/zeros")
    asked = ["--ways", "distil+sparse,distil+2:4", "compress.sparsity=0.9", "compress.to=20kB"]
    asked += ["compress.ratio=null"]

    assert call(monkeypatch, "compress", "runs/zeros", *asked) == 0

    found = json.loads(Path("runs/zeros/compress.json").read_text())
    whole = found["references"]["distilled"]["bytes"]
    assert [way["way"] for way in found["ways"]] == ["distil+sparse"] * 2 + ["distil+2:4"] * 2
    for way in found["ways"]:
        # The 5 inputs of the first layer are no groups of four.
        share = 0.9 if way["way"] == "distil+sparse" else 0.5 * 51 / 56
        assert way["bytes"] == pytest.approx(whole, rel=0.01)
        assert way["zipped_bytes"] < 0.9 * whole
        assert way["zeros"] == pytest.approx(share, abs=0.01)
        graph = onnx.load(str(Path("runs/zeros") / way["files"]["0"])).graph
        matrices = [onnx.numpy_helper.to_array(w) for w in graph.initializer if len(w.dims) == 2]
        empty = sum(int((m == 0).sum()) for m in matrices) / sum(m.size for m in matrices)
        assert empty == pytest.approx(share, abs=0.01)
