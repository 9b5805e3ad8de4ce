"""Files and folders through `datasets`: csv, json, parquet, image folders, saved sets."""

import gzip
import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.data import Kind, TargetKind, load
from potstill.errors import DataError, RecipeError

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

ROWS = [
    {"age": 20 + i, "dose": i / 4, "sex": "mf"[i % 2], "smokes": i % 3 == 0, "label": i % 2}
    for i in range(24)
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write_csv(path: Path, rows: list[dict], *, separator: str = ",") -> str:
    lines = [separator.join(rows[0])]
    lines += [separator.join("" if v is None else str(v) for v in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def write_json(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def write_parquet(path: Path, rows: list[dict]) -> str:
    datasets.Dataset.from_list(rows).to_parquet(path)
    return str(path)


WRITERS = {"csv": write_csv, "jsonl": write_json, "parquet": write_parquet}


def write_images(folder: Path, sizes: dict[str, tuple[int, ...]], *, rows: int = 6) -> str:
    """A folder of PNG files, one sub-folder a class, all pixels of an image of one value."""
    for number, (name, shape) in enumerate(sizes.items()):
        (folder / name).mkdir(parents=True)
        for row in range(rows):
            pixels = np.full(shape, 40 * number + row, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{row}.png")
    return str(folder)


@pytest.mark.parametrize("form", WRITERS)
def test_tables_are_read_alike_from_every_format(tmp_path, form):
    path = WRITERS[form](tmp_path / f"set.{form}", ROWS)

    data = load("hf", {"path": path})

    assert (data.kind, data.target_kind) == (Kind.TABLE, TargetKind.SINGLE_LABEL)
    assert data.features == ("age", "dose", "sex=f", "sex=m", "smokes")
    assert data.classes == ("0", "1")
    for inputs, label, number in zip(
        data.test.inputs.tolist(), data.test.labels, data.test.ids, strict=True
    ):
        row = ROWS[number]
        female = row["sex"] == "f"
        expected = [row["age"], row["dose"], female, not female, row["smokes"]]
        assert inputs == [float(value) for value in expected]
        assert label == row["label"]


def test_parts_come_from_files_by_name(tmp_path):
    files = {
        "train": write_csv(tmp_path / "a.csv", ROWS[:16]),
        "test": write_csv(tmp_path / "b.csv", ROWS[16:20]),
        "transfer": write_csv(
            tmp_path / "c.csv",
            [{k: v for k, v in row.items() if k != "label"} for row in ROWS[20:]],
        ),
    }

    data = load("hf", {"files": files})

    assert data.test.ids.tolist() == [16, 17, 18, 19]
    assert data.test.inputs[:, 0].tolist() == [36, 37, 38, 39]
    assert data.transfer.inputs[:, 0].tolist() == [40, 41, 42, 43]
    assert data.transfer.labels is None
    assert len(data.train) + len(data.validation) == 16


def test_a_folder_of_files_has_its_splits(tmp_path):
    write_csv(tmp_path / "train.csv", ROWS[:16])
    write_csv(tmp_path / "test.csv", ROWS[16:])

    data = load("hf", {"path": str(tmp_path)})
    renamed = load("hf", {"path": str(tmp_path), "splits": {"train": "test", "test": "train"}})

    assert (len(data.test), len(renamed.test)) == (8, 16)


def test_a_split_is_used_once(tmp_path):
    write_csv(tmp_path / "train.csv", ROWS[:16])
    write_csv(tmp_path / "validation.csv", ROWS[16:])

    data = load("hf", {"path": str(tmp_path), "splits": {"test": "validation"}})

    assert data.test.inputs[:, 0].tolist() == list(range(36, 44))
    assert len(data.train) + len(data.validation) == 16
    assert not any("repeat" in note for note in data.notes)


def test_other_separators_are_read(tmp_path):
    tabs = write_csv(tmp_path / "set.tsv", ROWS, separator="\t")
    semicolons = write_csv(tmp_path / "set.csv", ROWS, separator=";")

    first = load("hf", {"path": tabs})
    second = load("hf", {"path": semicolons, "separator": ";"})

    assert first.fingerprint() == second.fingerprint()


def test_compressed_files_are_read(tmp_path):
    plain = write_csv(tmp_path / "set.csv", ROWS)
    packed = tmp_path / "set.csv.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))

    assert (
        load("hf", {"path": str(packed)}).fingerprint() == load("hf", {"path": plain}).fingerprint()
    )


def test_columns_without_names_are_numbered(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("".join(f"{i},{i / 2},{i % 2}\n" for i in range(20)))

    data = load("hf", {"path": str(path), "headerless": True, "label": "2"})

    assert data.features == ("0", "1")
    assert len(data.train) + len(data.validation) + len(data.test) == 20


def test_columns_can_be_chosen(tmp_path):
    path = write_csv(tmp_path / "set.csv", ROWS)

    data = load("hf", {"path": path, "inputs": ["dose", "smokes"], "label": "sex"})
    values = load("hf", {"path": path, "inputs": "age", "label": "dose"})

    assert (data.features, data.classes) == (("dose", "smokes"), ("f", "m"))
    assert values.target_kind is TargetKind.REGRESSION
    torch.testing.assert_close(values.test.labels, (values.test.inputs - 20) / 4)


def test_changed_files_are_read_anew(tmp_path):
    path = tmp_path / "set.csv"
    first = load("hf", {"path": write_csv(path, ROWS)})

    second = load("hf", {"path": write_csv(path, [{**row, "age": 1} for row in ROWS])})

    assert first.train.inputs[:, 0].min() >= 20
    assert set(second.train.inputs[:, 0].tolist()) == {1}


def test_several_label_columns_are_multi_label_or_values(tmp_path):
    rows = [
        {"x": float(i), "a": i % 2, "b": int(i % 3 == 0), "p": i / 3, "q": -i / 3}
        for i in range(20)
    ]
    path = write_parquet(tmp_path / "set.parquet", rows)

    tags = load("hf", {"path": path, "inputs": "x", "label": ["a", "b"]})
    values = load("hf", {"path": path, "inputs": "x", "label": ["p", "q"]})

    assert (tags.target_kind, tags.classes) == (TargetKind.MULTI_LABEL, ("a", "b"))
    assert (values.target_kind, values.num_outputs) == (TargetKind.REGRESSION, 2)
    assert tags.test.labels[:, 1].tolist() == [float(i % 3 == 0) for i in tags.test.ids]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([["red"], ["blue", "red"], [], ["green"]], ("blue", "green", "red")),
        ([[2], [0, 2], [], [1]], ("0", "1", "2")),
    ],
)
def test_lists_of_classes_are_multi_label(tmp_path, labels, classes):
    rows = [{"x": [float(i), 0.0], "labels": labels[i % 4]} for i in range(20)]

    data = load("hf", {"path": write_json(tmp_path / "set.jsonl", rows)}, target_kind="multi_label")

    assert data.classes == classes
    for hot, number in zip(data.test.labels, data.test.ids, strict=True):
        named = {classes[i] for i in hot.nonzero().flatten()}
        assert named == {str(value) for value in labels[number % 4]}


def test_rows_of_zero_and_one_are_taken_as_they_are(tmp_path):
    rows = [{"x": float(i), "label": [i % 2, 1, int(i % 3 == 0)]} for i in range(20)]

    data = load("hf", {"path": write_json(tmp_path / "set.jsonl", rows)})

    assert (data.target_kind, data.num_outputs) == (TargetKind.MULTI_LABEL, 3)
    assert data.train.labels[:, 1].all()


def test_a_column_of_lists_is_a_signal_if_so_told(tmp_path):
    rows = [{"wave": [float(i), 1.0, 2.0], "label": i % 2} for i in range(20)]
    path = write_json(tmp_path / "set.jsonl", rows)

    assert load("hf", {"path": path}).input_shape == (3,)
    assert load("hf", {"path": path, "kind": "signal"}).input_shape == (1, 3)


def test_a_saved_set_keeps_its_class_names(tmp_path):
    features = datasets.Features(
        {"x": datasets.Value("float32"), "animal": datasets.ClassLabel(names=["yak", "cat", "emu"])}
    )
    whole = datasets.Dataset.from_list(
        [{"x": i / 2, "animal": i % 2} for i in range(20)], features=features
    )
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=whole, test=whole).save_to_disk(tmp_path / "two")

    one, two = (load("hf", {"path": str(tmp_path / name)}) for name in ("one", "two"))

    assert one.classes == two.classes == ("yak", "cat", "emu")
    assert "No training row has class `emu`." in one.notes
    assert len(two.test) == 20


def test_an_image_folder_gives_pixels_and_classes(tmp_path):
    path = write_images(tmp_path / "set", {"cat": (5, 7, 3), "dog": (5, 7, 3)})

    data = load("hf", {"path": path}, test=0.25)

    assert (data.kind, data.input_shape, data.classes) == (Kind.IMAGE, (3, 5, 7), ("cat", "dog"))
    pixels = torch.cat([data.train.inputs, data.validation.inputs, data.test.inputs])
    labels = torch.cat([data.train.labels, data.validation.labels, data.test.labels])
    assert torch.equal(pixels[:, 0, 0, 0] // 40, labels)
    assert sorted(pixels[:, 2, 4, 6].tolist()) == [*range(6), *range(40, 46)]


def test_image_folders_have_splits(tmp_path):
    write_images(tmp_path / "train", {"cat": (4, 4), "dog": (4, 4)})
    write_images(tmp_path / "test", {"cat": (4, 4), "dog": (4, 4)}, rows=2)

    data = load("hf", {"path": str(tmp_path)})

    assert len(data.test) == 4
    assert data.input_shape == (1, 4, 4)


def test_grey_and_colour_are_brought_together(tmp_path):
    path = write_images(tmp_path / "set", {"cat": (4, 4), "dog": (4, 4, 3)})

    assert load("hf", {"path": path}).input_shape == (3, 4, 4)
    grey = load("hf", {"path": path, "channels": 1})
    assert grey.input_shape == (1, 4, 4)
    assert torch.equal(grey.train.inputs[:, 0, 0, 0] // 40, grey.train.labels)


def test_images_of_unequal_size_name_both_sizes_and_the_way_out(tmp_path):
    path = write_images(tmp_path / "set", {"cat": (4, 6, 3), "dog": (8, 6, 3)})

    with pytest.raises(DataError, match=r"4 x 6 in row 0 and 8 x 6 in row 6 .*`resize:`"):
        load("hf", {"path": path})

    resized = load("hf", {"path": path, "resize": 5})
    assert resized.input_shape == (3, 5, 5)
    assert torch.equal(resized.train.inputs[:, 0, 0, 0] // 40, resized.train.labels)


def test_a_broken_image_says_which(tmp_path):
    path = write_images(tmp_path / "set", {"cat": (4, 4), "dog": (4, 4)})
    (tmp_path / "set" / "cat" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")

    with pytest.raises(DataError, match="image in row 3 of the train part cannot be decoded"):
        load("hf", {"path": path})


def test_unknown_categories_are_read_as_none_and_noted(tmp_path):
    files = {
        "train": write_csv(tmp_path / "a.csv", ROWS[:20]),
        "test": write_csv(tmp_path / "b.csv", [{**row, "sex": "x"} for row in ROWS[20:]]),
    }

    data = load("hf", {"files": files})

    assert not data.test.inputs[:, 2:4].any()
    assert any("1 categories in the test part" in note and "`x`" in note for note in data.notes)


def with_value(row: int, **values: object) -> list[dict]:
    return [{**r, **values} if i == row else r for i, r in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            with_value(5, dose=None),
            {},
            r"Column `dose` of the train part has no value in row 5 \(1",
        ),
        (with_value(5, label=None), {}, "Column `label` of the train part has no value in row 5"),
        (ROWS, {"label": "lable"}, "no column `lable`; did you mean `label`"),
        (ROWS, {"inputs": ["age", "dos"]}, "no column `dos`; did you mean `dose`"),
        (ROWS, {"inputs": ["age", "label"]}, "among both `inputs:` and `label:`"),
        ([{"a": i, "b": i} for i in range(9)], {}, "None of the columns `a`, `b` is clearly"),
        ([{"label": i % 2} for i in range(9)], {}, "no column besides the label"),
        (
            [{**r, "id": f"p{i * 37 % 101}"} for i, r in enumerate(ROWS * 4)],
            {},
            "96 different texts",
        ),
    ],
)
def test_columns_of_no_use_are_refused(tmp_path, rows, options, message):
    path = write_parquet(tmp_path / "set.parquet", rows)

    with pytest.raises(DataError, match=message):
        load("hf", {"path": path, **options})


def test_lists_of_unequal_length_say_where(tmp_path):
    rows = [{"wave": [1.0] * (3 + (i == 7)), "label": i % 2} for i in range(20)]

    with pytest.raises(DataError, match="3 values in row 0 and 4 in row 7"):
        load("hf", {"path": write_json(tmp_path / "set.jsonl", rows)})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.json", "{nope", r"bad.json` cannot be read \("),
        ("empty.csv", "", r"empty.csv` cannot be read \("),
        ("bad.parquet", "nope", r"bad.parquet` cannot be read \("),
        ("set.txt", "a", "is none of .csv, .tsv, .json"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message, capfd):
    (tmp_path / name).write_text(content)

    with pytest.raises(DataError, match=message) as caught:
        load("hf", {"path": str(tmp_path / name)})

    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_missing_places_are_named(tmp_path):
    (tmp_path / "empty").mkdir()

    for path in ("none.csv", "./none", "/none/such", "~/none"):
        with pytest.raises(DataError, match=f"There is no file `{path}`"):
            load("hf", {"path": path})
    with pytest.raises(DataError, match="neither a file or folder here nor a hub id"):
        load("hf", {"path": "what is this"})
    with pytest.raises(DataError, match=r"holds no image and no \.csv"):
        load("hf", {"path": str(tmp_path / "empty")})
    with pytest.raises(DataError, match=r"`some/where` cannot be read \(.*the network"):
        load("hf", {"path": "some/where"})


def test_wrong_options_are_refused(tmp_path):
    csv, table = (WRITERS[f](tmp_path / f"set.{f}", ROWS) for f in ("csv", "parquet"))

    for options, error, message in (
        ({}, RecipeError, "needs either `path:` or `files:"),
        ({"path": csv, "files": {"train": csv}}, RecipeError, "needs either `path:` or `files:"),
        ({"files": {"trian": csv}}, RecipeError, "no option `trian`; did you mean `train`"),
        ({"files": {"train": csv, "test": table}}, DataError, "mixes csv and parquet"),
        ({"path": table, "separator": ";"}, RecipeError, "`separator:` is for csv files"),
        ({"path": table, "headerless": True}, RecipeError, "`headerless:` is for csv files"),
        ({"path": csv, "splits": {"test": "tset"}}, DataError, "no split `tset` for the test part"),
        ({"files": {"test": csv, "transfer": csv}}, DataError, "No split is called `train`"),
    ):
        with pytest.raises(error, match=message):
            load("hf", options)


def test_progress_bars_are_left_as_they_were(tmp_path, capfd):
    from datasets.utils import are_progress_bars_disabled

    before = are_progress_bars_disabled()

    load("hf", {"path": write_csv(tmp_path / "set.csv", ROWS)})

    assert are_progress_bars_disabled() == before
    assert capfd.readouterr() == ("", "")
