"""Pictures with boxes in the format of COCO: one JSON file a part, beside a folder of pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from potstill.data.assembly import Raw
from potstill.data.boxes import Boxes, Scene, assembled, stacked
from potstill.data.sources.photos import read_photo
from potstill.data.sources.request import Request
from potstill.errors import DataError, RecipeError

OPTIONS = frozenset({"path", "annotations", "images"})
_USUAL = {
    "train": ("train.json", "instances_train.json", "annotations/instances_train2017.json"),
    "validation": ("val.json", "validation.json", "valid.json"),
    "test": ("test.json", "instances_test.json", "annotations/instances_val2017.json"),
}

Json = Mapping[str, object]


def read(request: Request) -> Raw:
    """The folder at `path:`.

    Its parts are `annotations: {train: …, validation: …, test: …}`, JSON files relative to the
    folder; train.json, val.json and test.json if left out. Pictures lie in `images:` (`images` if
    there is such a folder, else the folder itself). Crowds (`iscrowd`) are neither learnt nor
    counted. Classes are numbered in the order of their ids in the training file.

    Raises:
        DataError: a file that is missing or broken, a category or a picture that nobody knows,
            boxes outside of their picture.
    """
    options = request.options
    folder = Path(
        options.required("path", why="the folder of pictures and JSON files")
    ).expanduser()
    if not folder.is_dir():
        raise DataError(f"There is no folder `{folder}`; check `path:` (relative to {Path.cwd()}).")
    files = _files(folder, request)
    pictures = folder / (
        options.text("images") or ("images" if (folder / "images").is_dir() else "")
    )
    contents = {part: _content(path) for part, path in files.items()}
    categories = _categories(contents["train"], files["train"])
    numbers = {key: number for number, key in enumerate(categories)}
    parts = {
        part: _scenes(content, files[part], pictures, numbers) for part, content in contents.items()
    }
    return assembled(parts, request=request, name=folder.name, classes=tuple(categories.values()))


def _files(folder: Path, request: Request) -> dict[str, Path]:
    given = request.options.mapping("annotations")
    for part in given:
        if part not in _USUAL:
            raise RecipeError(
                f"`annotations:` of data source `coco` names the part `{part}`; there are train, "
                "validation and test."
            )
    found = {part: folder / str(name) for part, name in given.items()}
    if not given:
        for part, names in _USUAL.items():
            path = next((folder / name for name in names if (folder / name).is_file()), None)
            if path is not None:
                found[part] = path
    if "train" not in found:
        raise DataError(
            f"`{folder}` has no train.json; name the annotation files, for example "
            "`annotations: {train: instances_train.json, test: instances_test.json}`."
        )
    for part, path in found.items():
        if not path.is_file():
            raise DataError(f"There is no annotation file `{path}` for the {part} part.")
    return found


def _content(path: Path) -> Json:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"`{path}` cannot be read as JSON ({error}); write it again.") from error
    lists = content if isinstance(content, dict) else {}
    wanted = ("images", "annotations", "categories")
    missing = [key for key in wanted if not isinstance(lists.get(key), list)]
    if missing:
        raise DataError(
            f"`{path}` is not in COCO's format: it has no list `{missing[0]}` at its top; images, "
            "annotations and categories are expected."
        )
    return cast("Json", content)


def _categories(content: Json, path: Path) -> dict[int, str]:
    """Names by id, in the order of ids."""
    try:
        found = {int(str(each["id"])): str(each["name"]) for each in _rows(content, "categories")}
    except (KeyError, ValueError) as error:
        raise DataError(
            f"A category of `{path}` lacks a whole `id` or a `name` ({error})."
        ) from error
    if not found:
        raise DataError(f"`{path}` names no category; at least one is needed.")
    return dict(sorted(found.items()))


def _scenes(content: Json, path: Path, pictures: Path, numbers: Mapping[int, int]) -> list[Scene]:
    boxes: dict[object, list[list[float]]] = {}
    names = {each.get("id"): str(each.get("file_name")) for each in _rows(content, "images")}
    for each in _rows(content, "annotations"):
        image = each.get("image_id")
        if image not in names:
            raise DataError(f"Annotation {each.get('id')} of `{path}` is of picture {image}, which "
                            "the file does not list under `images`.")  # fmt: skip
        boxes.setdefault(image, []).append(_box(each, path, numbers))
    return [
        Scene(name=name, pixels=read_photo(pictures / name), boxes=_made(boxes.get(image, [])))
        for image, name in names.items()
    ]


def _made(rows: list[list[float]]) -> Boxes:
    return stacked(rows)


def _box(each: Json, path: Path, numbers: Mapping[int, int]) -> list[float]:
    category, box = each.get("category_id"), each.get("bbox")
    if category not in numbers:
        known = ", ".join(map(str, numbers))
        raise DataError(
            f"Annotation {each.get('id')} of `{path}` has the category {category}, and the "
            f"training file knows {known}; correct it, or add the category."
        )
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise DataError(
            f"Annotation {each.get('id')} of `{path}` has the box {box!r}; four numbers are "
            "expected: left, top, width, height."
        )
    x, y, width, height = (float(value) for value in box)
    ignored = float(bool(each.get("iscrowd", 0)))
    return [float(numbers[cast("int", category)]), x, y, x + width, y + height, ignored]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(content: Json, key: str) -> list[Json]:
    return [each for each in cast("list[object]", content[key]) if isinstance(each, dict)]
