"""`potstill label`: from a recipe to a store, what it holds, whether it is sound, and back."""

import json
import shutil
from pathlib import Path

import pytest

from potstill.store import Store
from potstill.teachers import StoredTeacher

from .shared import call, write_recipe

QUICK = {"distill": {"epochs": 3, "batch_size": 32}, "speed": "exact"}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """A folder with a recipe, its teacher's run and a store."""
    folder = tmp_path_factory.mktemp("label")
    recipe = write_recipe(folder, **QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call(patch, "label", recipe, "--out", "answers") == 0
    return folder


def test_a_store_is_written_and_a_run_reads_it(labelled, tmp_path, monkeypatch, capsys) -> None:
    folder = shutil.copytree(labelled, tmp_path / "copy")
    monkeypatch.chdir(folder)
    stamp = (folder / "answers" / "000000.shard").stat().st_mtime_ns

    code = call(monkeypatch, "run", "quick.yaml", f"store.path={folder / 'answers'}")
    said = capsys.readouterr().out

    assert code == 0, said
    assert "store: yes, the recipe asks for it." in said
    assert "teacher, seed 0" not in said, "the teacher was trained by `label` already"
    assert (folder / "answers" / "000000.shard").stat().st_mtime_ns == stamp
    results = json.loads((folder / "runs" / "quick" / "results.json").read_text())
    assert results["store"]["used"]
    assert StoredTeacher(folder / "answers").offers().num_classes == 3


def test_labelling_again_asks_nothing_and_prints_what_there_is(
    labelled, tmp_path, monkeypatch, capsys
) -> None:
    folder = shutil.copytree(labelled, tmp_path / "copy")
    monkeypatch.chdir(folder)

    assert call(monkeypatch, "label", "quick.yaml", "--out", "answers") == 0
    said = capsys.readouterr().out

    assert "answers: 108 answers about 108 samples" in said
    assert "teacher, seed 0" not in said


def test_inspect_says_what_a_store_holds(labelled, monkeypatch, capsys) -> None:
    monkeypatch.chdir(labelled)
    monkeypatch.setenv("COLUMNS", "200")

    assert call(monkeypatch, "label", "--inspect", "answers") == 0
    said = capsys.readouterr().out

    for words in ("108 answers", "dense, dtype=fp32", "12 B", "augmentation: none", "in 1 shard"):
        assert words in said


def test_inspect_prints_json_for_machines(labelled, monkeypatch, capsys) -> None:
    monkeypatch.chdir(labelled)

    assert call(monkeypatch, "label", "--inspect", "answers", "--json") == 0
    found = json.loads(capsys.readouterr().out)

    store = Store(labelled / "answers")
    assert (found["records"], found["samples"], found["views"]) == (108, 108, {"0": 108})
    assert found["key"] == store.manifest.key.to_json()
    assert found["bytes"] == (labelled / "answers" / "000000.shard").stat().st_size
    assert found["signals"][0]["codec"] == "dense"
    assert found["signals"][0]["bytes_per_row"] == 12


def test_verify_tells_sound_from_damaged(labelled, tmp_path, monkeypatch, capsys) -> None:
    folder = shutil.copytree(labelled / "answers", tmp_path / "answers")

    assert call(monkeypatch, "label", "--verify", folder) == 0
    assert "sound: every byte" in capsys.readouterr().out

    content = bytearray((folder / "000000.shard").read_bytes())
    content[100] ^= 16
    (folder / "000000.shard").write_bytes(content)
    assert call(monkeypatch, "label", "--verify", folder) == 1
    said = capsys.readouterr().err
    assert "1 of 1 shard. Delete" in said
    assert "000000.shard: 1 of its blocks" in said

    assert call(monkeypatch, "label", "--verify", folder, "--json") == 1
    assert json.loads(capsys.readouterr().out)["damages"] != []


def test_views_codec_and_layers_are_options(tmp_path, monkeypatch, capsys) -> None:
    noise = [{"op": "noise", "std": 0.2}]
    recipe = write_recipe(tmp_path, **{**QUICK, "distill": {"epochs": 6, "augment": noise}})
    monkeypatch.chdir(tmp_path)

    options = ["--views", 2, "--codec", "topk", "--layers", "net.1", "--run", "here", "--json"]
    code = call(monkeypatch, "label", recipe, "store.codec.k=2", "store.codec.codec=topk", *options)
    assert code == 1, "a layer that the teacher does not have"
    assert "net.1" in capsys.readouterr().err
    layer = "layer1.0"
    options[5] = layer
    assert call(monkeypatch, "label", recipe, *options) == 0
    found = json.loads(capsys.readouterr().out)

    assert found["views"] == {"1": 108, "2": 108}
    assert [(s["name"], s["codec"]) for s in found["signals"]] == [
        ("logits", "topk"),
        (f"features/{layer}", "float"),
    ]
    assert found["signals"][0]["options"]["temperature"] == 4
    assert (tmp_path / "here" / "store" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        # nothing to do
        ([], "needs a recipe, or --inspect STORE"),
        # no store there
        (["--inspect", "nowhere"], "There is no store at nowhere"),
        (["--verify", "nowhere"], "There is no store at nowhere"),
        # several views of the same thing
        (["quick.yaml", "--views", 2], "nothing is augmented"),
        # no such codec
        (["quick.yaml", "--codec", "topp"], "There is no codec `topp`; did you mean `topk`?"),
        # mixing
        (["quick.yaml", "distill.mix.kind=mixup"], "mixing makes new samples at every step"),
        # a fresh view each epoch
        (["quick.yaml", "distill.augment=[{op: noise}]"], "give `store.views`"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words, sentence, labelled, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(labelled)

    code = call(monkeypatch, "label", *words)

    said = capsys.readouterr().err
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said


def test_another_recipe_is_refused_over_the_same_store(
    labelled, tmp_path, monkeypatch, capsys
) -> None:
    folder = shutil.copytree(labelled, tmp_path / "copy")
    monkeypatch.chdir(folder)

    code = call(
        monkeypatch, "label", "quick.yaml", "data.validation=0.2", "--out", "answers", "--run", "b"
    )

    assert code == 1
    said = capsys.readouterr().err
    assert "The store answers is not the one asked for" in said
    assert "its samples were normalised otherwise" in said
