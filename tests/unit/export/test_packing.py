"""Students in all their forms: that each answers alike, what lies beside, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import potstill
from potstill.data import from_arrays
from potstill.errors import ExportError
from potstill.export.formats import Bound, Format
from potstill.export.manifest import MANIFEST, artefacts_in, check_artefact
from potstill.export.opened import open_artefact
from potstill.export.sound import check_sound
from potstill.models import ModelConfig, create_model
from potstill.pipeline.packing import Outgoing, check_formats, pack, shipped_table
from potstill.tasks import CausalLM, Classification

LOOSE = {"int8": Bound(difference=0.5, agreement=0.5)}  # random weights decide by a hair
CLASSES = ("left", "middle", "right")


def outgoing(**changes: object) -> Outgoing:
    chance = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = chance.integers(0, 60, size=(120, 1, 12, 12), dtype=np.uint8)
    for row, label in enumerate(labels):
        images[row, :, :, 4 * label : 4 * label + 4] += 150
    data = replace(from_arrays(images, labels, kind="image"), classes=CLASSES)
    config = ModelConfig(source="builtin", name="resnet8", input_shape=(1, 12, 12), num_outputs=3)
    made = {
        "module": create_model(config).eval(),
        "role": "distilled",
        "seed": 1,
        "data": data,
        "task": Classification(),
        "config": config,
        "bounds": LOOSE,
    }
    return Outgoing(**{**made, **changes})


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outgoing, Path]:
    folder = tmp_path_factory.mktemp("packed")
    student = outgoing()
    refused = pack(student, list(Format), folder)
    assert refused == []
    return student, folder


def test_every_form_answers_as_the_student_does(packed: tuple[Outgoing, Path]) -> None:
    student, folder = packed
    raw = student.data.test.inputs.float()
    with torch.no_grad():
        expected = student.module(student.data.normalise(raw)).numpy()

    errors = {}
    for artefact in artefacts_in(folder):
        opened = open_artefact(folder / artefact["file"])
        rows = raw if opened.normalises else student.data.normalise(raw)
        got = opened.answer(rows.numpy())
        errors[artefact["format"]] = np.abs(got - expected).max() / np.abs(expected).max()

    assert set(errors) == set(map(str, Format))
    small = [error for form, error in errors.items() if form not in ("onnx-fp16", "onnx-int8")]
    assert max(small) < 1e-5
    assert 1e-5 < errors["onnx-fp16"] < 0.02
    assert 1e-4 < errors["onnx-int8"] < 0.5


def test_the_manifest_says_what_was_found(packed: tuple[Outgoing, Path]) -> None:
    listed = {artefact["format"]: artefact for artefact in artefacts_in(packed[1])}

    for artefact in listed.values():
        assert artefact["seed"] == 1
        assert artefact["bytes"] == (packed[1] / artefact["file"]).stat().st_size
        assert artefact["parity"]["rows"] > 0
    assert listed["executorch"]["parity"]["engine"] == "executorch"
    assert listed["onnx"]["parity"]["agreement"] == 1.0
    assert listed["onnx-int8"]["precision"] == "int8"
    assert listed["onnx-fp16"]["bytes"] < 0.6 * listed["onnx"]["bytes"]
    assert listed["onnx-int8"]["bytes"] < 0.4 * listed["onnx"]["bytes"]


def test_what_a_stranger_must_know_lies_beside_and_inside(packed: tuple[Outgoing, Path]) -> None:
    student, folder = packed
    beside = json.loads((folder / "preprocessing.json").read_text())
    notes = {e.key: e.value for e in onnx.load(str(folder / "distilled.onnx")).metadata_props}

    assert json.loads((folder / "labels.json").read_text())["labels"] == list(CLASSES)
    assert beside["input"] == {
        "names": ["input"],
        "dtype": "float32",
        "shape": ["batch", 1, 12, 12],
        "layout": "NCHW",
        "largest": 255.0,
    }
    assert beside["resize"] == {"height": 12, "width": 12, "mode": "bilinear, antialiased"}
    assert beside["normalisation"]["mean"] == student.data.normalise.mean.flatten().tolist()
    assert json.loads(notes["preprocessing"])["input"] == beside["input"]


def test_weights_alone_are_built_again(packed: tuple[Outgoing, Path]) -> None:
    student, folder = packed

    again = potstill.load(folder / "distilled.safetensors")

    assert not again.training
    for name, value in student.module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_an_altered_file_is_refused(packed: tuple[Outgoing, Path], tmp_path: Path) -> None:
    for file in packed[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert check_sound(tmp_path / "distilled.pte")["format"] == "executorch"

    content = bytearray((tmp_path / "distilled.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "distilled.onnx").write_bytes(content)

    with pytest.raises(ExportError, match=r"corrupt or was altered .* SHA-256 begins with"):
        check_artefact(tmp_path / "distilled.onnx")
    (tmp_path / "labels.json").unlink()
    with pytest.raises(ExportError, match=r"labels\.json is missing"):
        check_artefact(tmp_path / "distilled.pte")
    (tmp_path / "other.onnx").write_bytes(b"")
    with pytest.raises(ExportError, match=r"is not in .*it lists distilled.onnx"):
        check_artefact(tmp_path / "other.onnx")
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(ExportError, match=r"has no manifest\.json beside it"):
        check_artefact(tmp_path / "distilled.pte")


@pytest.mark.parametrize("ending", ["onnx", "pte", "pt2", "safetensors"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(b"no model at all" * 100)

    with pytest.raises(ExportError):
        open_artefact(path)


def test_a_broken_bound_leaves_no_file(tmp_path: Path) -> None:
    strict = {"int8": Bound(difference=1e-9, agreement=1.0)}

    refused = pack(outgoing(bounds=strict), [Format.ONNX, Format.ONNX_INT8], tmp_path)

    assert [one["format"] for one in refused] == ["onnx-int8"]
    assert "1e-09 is allowed; do not ship it" in refused[0]["reason"]
    assert not (tmp_path / "distilled-int8.onnx").exists()
    (table,) = shipped_table(tmp_path, "distilled")
    assert [row[0] for row in table["rows"]] == ["`distilled.onnx`", "onnx-int8"]


def test_another_seed_takes_the_place_of_the_first(tmp_path: Path) -> None:
    pack(outgoing(), [Format.ONNX, Format.SAFETENSORS], tmp_path)
    pack(outgoing(seed=2), [Format.ONNX], tmp_path)

    assert [(a["format"], a["seed"]) for a in artefacts_in(tmp_path)] == [("onnx", 2)]
    assert not (tmp_path / "distilled.safetensors").exists()

    pack(outgoing(seed=2, role="scratch"), [Format.SAFETENSORS], tmp_path)
    assert [a["role"] for a in artefacts_in(tmp_path)] == ["distilled", "scratch"]


def test_models_of_the_users_own_code_have_no_safetensors(tmp_path: Path) -> None:
    (refused,) = pack(outgoing(config=None), [Format.SAFETENSORS], tmp_path)

    assert "made by your own code; ship it as `torch` or `onnx`" in refused["reason"]


def test_language_models_have_no_such_forms() -> None:
    with pytest.raises(ExportError, match=r"`executorch` is built for .* ask for `onnx` or `hf`"):
        check_formats(["hf", "executorch"], CausalLM(vocabulary=10))
