"""COCO and Pascal VOC folders become pictures of one size with padded boxes, or one sentence."""

import json

import pytest
import torch
from PIL import Image

from potstill import data as D
from potstill.errors import DataError, RecipeError

from .scenes import write_coco, write_voc


def load(source: str, **options: object):
    return D.load(source, options, target_kind="boxes")


def test_a_coco_folder_has_its_parts_classes_and_boxes(tmp_path) -> None:
    folder = write_coco(tmp_path / "set")
    content = json.loads((folder / "train.json").read_text())

    found = load("coco", path=str(folder))

    assert (len(found.train), len(found.validation), len(found.test)) == (12, 6, 6)
    assert found.classes == ("red", "blue")  # in the order of their ids, 3 and 7
    assert found.num_outputs == 2
    first = next(a for a in content["annotations"] if a["image_id"] == 0)
    x, y, w, h = first["bbox"]
    expected = [(3, 7).index(first["category_id"]), x, y, x + w, y + h, 0]
    assert found.train.labels[0, 0].tolist() == expected
    kind = int(expected[0])
    inside = found.train.inputs[0, :, y + h // 2, x + w // 2]
    assert inside[(0, 2)[kind]] == 220 or len(content["annotations"]) > 12


def test_pictures_of_unlike_sizes_are_fitted_and_their_boxes_with_them(tmp_path) -> None:
    folder = write_coco(tmp_path / "set", size=(40, 80))
    Image.new("RGB", (160, 80)).save(folder / "images" / "train0.png")
    content = json.loads((folder / "train.json").read_text())
    content["annotations"] = [
        {"id": 0, "image_id": 0, "bbox": [40, 20, 80, 40], "category_id": 3, "iscrowd": 1}
    ]
    (folder / "train.json").write_text(json.dumps(content))

    found = load("coco", path=str(folder), resize=[64, 64])

    assert found.train.inputs.shape == (12, 3, 64, 64)
    assert found.train.labels[0, 0].tolist() == [0, 16, 8, 48, 24, 1]
    assert found.train.labels[1, 0, 0] == -1
    assert (found.test.inputs[:, :, 32:] == 0).all()  # what is left of the canvas


def test_a_voc_folder_without_lists_is_divided(tmp_path) -> None:
    objects = {f"p{i}": [("cat", [1, 1, 10, 10], 0), ("dog", [5, 6, 20, 30], 1)] for i in range(8)}
    folder = write_voc(tmp_path / "voc", objects)

    found = load("voc", path=str(folder))

    assert found.classes == ("cat", "dog")
    assert len(found.train) + len(found.validation) + len(found.test) == 8
    assert found.train.labels[0].tolist() == [[0, 0, 0, 10, 10, 0], [1, 4, 5, 20, 30, 1]]


def test_a_voc_folder_with_lists_is_taken_as_it_is(tmp_path) -> None:
    folder = write_voc(tmp_path / "voc", {f"p{i}": [("cat", [1, 1, 9, 9], 0)] for i in range(6)})
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for part, names in (("train", "p0\np1\np2"), ("val", "p3"), ("test", "p4 1\np5 -1")):
        (lists / f"{part}.txt").write_text(names)

    found = load("voc", path=str(folder))

    assert (len(found.train), len(found.validation), len(found.test)) == (3, 1, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": {"train": "other.json"}}, "There is no annotation file"),
        ({"annotations": {"trian": "train.json"}}, "names the part `trian`"),
        ({"path": "nowhere"}, "There is no folder `nowhere`"),
        ({"images": "photos"}, "There is no picture"),
    ],
)
def test_what_is_missing_is_named(tmp_path, change: dict, said: str) -> None:
    folder = write_coco(tmp_path / "set")

    with pytest.raises((DataError, RecipeError), match=said):
        load("coco", **{"path": str(folder), **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bbox": [50, 50, 30, 10]}, r"corners \(50, 50\) and \(80, 60\), outside of its picture"),
        ({"bbox": [1, 2, 3]}, "four numbers are expected"),
        ({"category_id": 5}, "has the category 5, and the training file knows 3, 7"),
        ({"image_id": 99}, "is of picture 99"),
    ],
)
def test_a_wrong_annotation_is_one_sentence(tmp_path, change: dict, said: str) -> None:
    folder = write_coco(tmp_path / "set")
    content = json.loads((folder / "train.json").read_text())
    content["annotations"][0] |= change
    (folder / "train.json").write_text(json.dumps(content))

    with pytest.raises(DataError, match=said):
        load("coco", path=str(folder))


def test_unlike_sizes_without_a_size_to_fit_are_refused(tmp_path) -> None:
    folder = write_coco(tmp_path / "set")
    Image.new("RGB", (70, 64)).save(folder / "images" / "test3.png")

    with pytest.raises(DataError, match=r"unequal size: 64 x 64 .* 64 x 70 .* set `resize:`"):
        load("coco", path=str(folder))


def test_a_class_that_nobody_named_is_refused(tmp_path) -> None:
    folder = write_voc(tmp_path / "voc", {"p0": [("cow", [1, 1, 9, 9], 0)]})

    with pytest.raises(DataError, match="object of class `cow`, and the classes are `cat`"):
        load("voc", path=str(folder), classes=["cat"])


def test_files_that_are_broken_are_named(tmp_path) -> None:
    folder = write_coco(tmp_path / "set")
    (folder / "val.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="no list `annotations`"):
        load("coco", path=str(folder))

    voc = write_voc(tmp_path / "voc", {"p0": [("cat", [1, 1, 9, 9], 0)]})
    (voc / "Annotations" / "p0.xml").write_text("<annotation>")
    with pytest.raises(DataError, match="not valid XML"):
        load("voc", path=str(voc))


def test_tiny_boxes_are_left_out_with_a_note(tmp_path) -> None:
    folder = write_coco(tmp_path / "set", size=(64, 64))

    found = load("coco", path=str(folder), resize=3)

    assert any("are left out" in note for note in found.notes)
    sides = found.train.labels[..., 3:5] - found.train.labels[..., 1:3]
    assert torch.all(sides[found.train.labels[..., 0] >= 0] >= 1)
