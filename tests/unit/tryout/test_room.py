"""Questions to the models of a run: what is read of them, and what is said."""

import base64
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from potstill.data.table_form import TableColumn, TableForm
from potstill.errors import DataError, ExportError, StorageError
from potstill.tryout.answering import Answerer
from potstill.tryout.page import fields_of
from potstill.tryout.room import Room

from .tiny import write_run, write_text_run


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Room]:
    root = tmp_path_factory.mktemp("rooms")
    return {kind: Room(write_run(root / kind, kind=kind)) for kind in ("image", "audio", "table")}


def picture(level: int, *, mode: str = "L", size: tuple[int, int] = (40, 30)) -> str:
    file = io.BytesIO()
    Image.new(mode, size, level if mode == "L" else (level,) * 3).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def sound(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def said(answer: dict) -> list[str]:
    return [each["said"] for each in answer["answers"]]


@pytest.mark.parametrize("kind", ["image", "audio", "table"])
@pytest.mark.parametrize(("number", "name"), [(0, "low"), (4, "middle"), (8, "high")])
def test_every_model_answers_a_test_sample(
    rooms: dict[str, Room], kind: str, number: int, name: str
) -> None:
    found = rooms[kind].ask({"kind": "sample", "number": number})

    assert said(found) == [name] * 3
    assert found["truth"] == name
    assert [each["name"] for each in found["answers"]] == ["teacher", "distilled", "scratch"]
    assert [each["agrees"] for each in found["answers"]] == [None, True, True]


def test_probabilities_are_those_of_the_model(rooms: dict[str, Room]) -> None:
    teacher = rooms["image"].ask({"kind": "sample", "number": 0})["answers"][0]

    logits = -40 * np.square([0.0, 0.5, 1.0])
    expected = np.exp(logits) / np.exp(logits).sum()
    shares = [guess["probability"] for guess in teacher["guesses"]]
    assert shares == pytest.approx(sorted(expected, reverse=True), abs=1e-6)


@pytest.mark.parametrize(("level", "name"), [(0, "low"), (128, "middle"), (255, "high")])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_of_any_size_is_read_as_in_training(
    rooms: dict[str, Room], level: int, name: str, mode: str
) -> None:
    found = rooms["image"].ask({"kind": "image", "file": picture(level, mode=mode)})

    assert said(found) == [name] * 3
    assert found["picture"]["image"].startswith("data:image/png;base64,")
    assert found["truth"] == ""


def test_a_picture_can_be_inverted(rooms: dict[str, Room]) -> None:
    found = rooms["image"].ask({"kind": "image", "file": picture(255), "invert": True})

    assert said(found) == ["low"] * 3


def test_a_sound_at_another_rate_is_heard_in_its_loudest_stretch(rooms: dict[str, Room]) -> None:
    # 3 s at 1,600 Hz; the models hear 1 s at 400 Hz
    wave = np.concatenate([np.zeros(1600), np.full(1600, 0.999), np.zeros(1600)])

    found = rooms["audio"].ask({"kind": "sound", "rate": 1600, "samples": sound(wave)})

    assert said(found) == ["high"] * 3
    assert found["picture"]["sound"].startswith("data:audio/wav;base64,")


def test_a_row_is_taken_by_the_names_of_its_features(rooms: dict[str, Room]) -> None:
    values = {f"f{i}": 1.0 for i in range(4)}

    assert said(rooms["table"].ask({"kind": "row", "values": values})) == ["high"] * 3


def test_a_text_is_read_with_the_tokenizer_of_the_run(tmp_path: Path) -> None:
    room = Room(write_text_run(tmp_path))

    found = room.ask({"kind": "text", "texts": ["very fine music"]})

    assert said(found) == ["good", "good"]
    assert found["picture"]["text"] == "very fine music"
    assert said(room.ask({"kind": "text", "texts": ["a grim story"]})) == ["bad", "bad"]
    assert said(room.ask({"kind": "sample", "number": 0})) == ["good", "good"]
    # of six tokens two are the frame: what comes after the fourth word is not read
    long = room.ask({"kind": "text", "texts": ["a story with fine awful dull"]})
    assert said(long) == ["good", "good"]
    assert "cut to 6 tokens" in long["picture"]["text"]
    with pytest.raises(DataError, match="empty"):
        room.ask({"kind": "text", "texts": [" "]})
    with pytest.raises(DataError, match="take 1 texts"):
        room.ask({"kind": "text", "texts": ["a", "b"]})


def test_letters_are_read_from_frames(tmp_path: Path) -> None:
    folder = write_run(tmp_path, kind="audio", target_kind="transcript")
    for file in (folder / "export").iterdir():
        file.unlink()
    waves = np.zeros((2, 2, 400), dtype=np.int16)
    waves[:, 0], waves[0, 1, :300], waves[1, 1] = 7, 1, 1
    np.savez(folder / "samples.npz", ids=np.arange(2), inputs=waves)
    np.savez(folder / "predictions.npz", ids=np.arange(2), labels=np.array([[1, 2, -100]] * 2))
    heard: list[tuple[int, ...]] = []

    def frames(rows: np.ndarray) -> np.ndarray:
        heard.append(rows.shape)
        # blank, middle twice, blank, middle, high: repeats once, unless a blank stands between
        return np.eye(3, dtype=np.float32)[[0, 1, 1, 0, 1, 2]][None]

    teacher = Answerer(name="teacher", call=frames, engine="test")
    room = Room(folder, more=lambda roles: [teacher])
    found = room.ask({"kind": "sample", "number": 0})

    assert said(found) == ["middlemiddlehigh"]
    assert found["truth"] == "middlehigh"
    assert heard[-1] == (1, 300)  # without what pads it


def test_a_row_of_columns_is_coded_as_in_training(tmp_path: Path) -> None:
    folder = write_run(tmp_path, kind="table")
    columns = (
        TableColumn(name="age", flagged=True, fill=0.5),
        TableColumn(name="group", categories=("a", "b")),
    )
    TableForm(columns).save(folder / "export" / "columns.json")
    room = Room(folder)

    fields = fields_of(room.subject, row=2)  # all four numbers are 1
    found = room.ask({"kind": "row", "values": {"age": None, "group": "b"}})

    assert [(f.name, f.value, f.choices) for f in fields] == [
        ("age", "", ()),
        ("group", "a", ("a", "b")),
    ]
    # (0.5 + 1 + 0 + 1) / 4 is nearest to the middle
    assert said(found) == ["middle"] * 3


@pytest.mark.parametrize(
    ("kind", "question", "sentence"),
    [
        ("image", {"kind": "text", "texts": ["a"]}, "take 'image' or 'sample'"),
        ("image", {}, "kind None"),
        ("image", {"kind": "sample", "number": 9}, "0 to 8"),
        ("image", {"kind": "sample", "number": "1"}, "no test sample '1'"),
        ("image", {"kind": "image", "file": "no base64!"}, "send it again"),
        ("image", {"kind": "image", "file": "bm8gcGljdHVyZQ=="}, "PNG or JPEG"),
        ("audio", {"kind": "sound", "rate": 0, "samples": ""}, "samples a second"),
        ("audio", {"kind": "sound", "rate": 8000, "samples": ""}, "empty"),
        ("audio", {"kind": "sound", "rate": 1000, "samples": sound(np.full(9, np.nan))}, "broken"),
        ("audio", {"kind": "sound", "rate": 1000, "samples": sound(np.ones(70_000))}, "70 s"),
        ("table", {"kind": "row", "values": {"f0": 1}}, "no number"),
        ("table", {"kind": "row", "values": [1, 2]}, "take 4 numbers"),
    ],
)
def test_broken_questions_are_one_sentence(
    rooms: dict[str, Room], kind: str, question: dict, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        rooms[kind].ask(question)


def test_labels_values_and_decisions_are_in_words(tmp_path: Path) -> None:
    labels = Room(write_run(tmp_path / "labels", target_kind="multi_label"))
    values = Room(write_run(tmp_path / "values", target_kind="regression"))

    # logits of sample 4 are -10, 0, -10: nothing is above one half
    assert said(labels.ask({"kind": "sample", "number": 4}))[0] == "no label"
    low, middle, high = map(float, said(values.ask({"kind": "sample", "number": 4}))[0].split(", "))
    assert [low, middle, high] == pytest.approx([-10, 0, -10], abs=0.2)
    assert values.ask({"kind": "sample", "number": 4})["answers"][1]["agrees"] is None


def test_roles_that_were_not_exported_are_asked_for(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder / "export" / "teacher.onnx").unlink()
    wanted: list[list[str]] = []

    room = Room(folder, more=lambda roles: wanted.append(list(roles)) or ())

    assert wanted == [["teacher"]]
    assert [each.name for each in room.answerers] == ["distilled", "scratch"]


def test_programs_of_a_runtime_that_is_not_installed_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path)
    (folder / "export" / "distilled.pte").write_bytes(b"a program")
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)

    assert [each.engine for each in Room(folder).answerers] == ["onnxruntime"] * 3


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder / "export" / "distilled.onnx").write_bytes(b"no model")

    with pytest.raises(ExportError, match=r"distilled\.onnx"):
        Room(folder)


def test_folders_that_cannot_be_tried_are_refused(tmp_path: Path) -> None:
    boxes = write_run(tmp_path / "boxes", target_kind="boxes")
    empty = write_run(tmp_path / "empty")
    for file in (empty / "export").iterdir():
        file.unlink()

    with pytest.raises(DataError, match=r"boxes.*report\.html"):
        Room(boxes)
    with pytest.raises(ExportError, match="nothing was exported"):
        Room(empty)
    with pytest.raises(StorageError):
        Room(tmp_path)
