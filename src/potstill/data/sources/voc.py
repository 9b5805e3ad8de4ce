"""Pictures with boxes in the format of Pascal VOC: one XML file a picture."""

from pathlib import Path
from xml.etree import ElementTree

from potstill.data.assembly import Raw
from potstill.data.boxes import Scene, assembled, stacked
from potstill.data.sources.photos import read_photo
from potstill.data.sources.request import Request
from potstill.errors import DataError

OPTIONS = frozenset({"path", "sets"})
_SETS = {"train": "train", "validation": "val", "test": "test"}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(request: Request) -> Raw:
    """The folder at `path:`, with Annotations/*.xml, JPEGImages/ and ImageSets/Main/*.txt.

    Parts are the lists train, val and test in ImageSets/Main; `sets: {train: trainval, test: test}`
    names others. Without lists every annotation is a training one, and the parts are cut off.
    Classes are in the order of their names, or as `classes:` says. Objects marked `difficult` are
    neither learnt nor counted.

    Raises:
        DataError: a file that is missing or broken, a class that `classes:` does not name, boxes
            outside of their picture.
    """
    folder = Path(request.options.required("path", why="the folder with Annotations")).expanduser()
    annotations = folder / "Annotations"
    if not annotations.is_dir():
        raise DataError(
            f"There is no folder `{annotations}`; give `path:` (relative to {Path.cwd()}) a folder "
            "in Pascal VOC's format, such as VOCdevkit/VOC2007."
        )
    listed = _listed(folder, annotations, request)
    trees = {part: {n: _tree(annotations / f"{n}.xml") for n in names}
             for part, names in listed.items()}  # fmt: skip
    classes = request.form.classes or _classes(list(trees["train"].values()))
    parts = {
        part: [_scene(folder, name, tree, classes) for name, tree in found.items()]
        for part, found in trees.items()
    }
    return assembled(parts, request=request, name=folder.name, classes=classes)


def _listed(folder: Path, annotations: Path, request: Request) -> dict[str, list[str]]:
    given = request.options.mapping("sets")
    lists = {str(part): str(name) for part, name in given.items()} or _SETS
    found: dict[str, list[str]] = {}
    for part, name in lists.items():
        path = folder / "ImageSets" / "Main" / f"{name}.txt"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            found[part] = [line.split()[0] for line in lines if line.strip()]
        elif given:
            raise DataError(f"There is no list `{path}` for the {part} part; check `sets:`.")
    if "train" in found:
        return found
    names = sorted(path.stem for path in annotations.glob("*.xml"))
    if not names:
        raise DataError(f"`{annotations}` holds no XML file; one a picture is expected.")
    return {"train": names}


def _tree(path: Path) -> ElementTree.Element:
    if not path.is_file():
        raise DataError(f"There is no annotation file `{path}`, which a list names.")
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f"`{path}` is not valid XML ({error}); write it again.") from error


def _classes(trees: list[ElementTree.Element]) -> tuple[str, ...]:
    return tuple(sorted({each.findtext("name", "") for t in trees for each in t.iter("object")}))


def _scene(folder: Path, name: str, tree: ElementTree.Element, classes: tuple[str, ...]) -> Scene:
    file = tree.findtext("filename") or f"{name}.jpg"
    path = folder / "JPEGImages" / file
    if not path.is_file():  # renamed pictures keep their annotation's name
        path = folder / "JPEGImages" / f"{name}.jpg"
    rows = [_box(each, classes, where=f"{name}.xml") for each in tree.iter("object")]
    return Scene(name=path.name, pixels=read_photo(path), boxes=stacked(rows))


def _box(each: ElementTree.Element, classes: tuple[str, ...], *, where: str) -> list[float]:
    name, place = each.findtext("name", ""), each.find("bndbox")
    if name not in classes:
        raise DataError(
            f"`{where}` has an object of class `{name}`, and the classes are "
            f"{', '.join(f'`{c}`' for c in classes)}; correct it, or name all with `classes:`."
        )
    try:
        corners = [float(place.findtext(key, "")) for key in _CORNERS]  # type: ignore[union-attr]
    except (AttributeError, ValueError) as error:
        raise DataError(
            f"`{where}` has an object whose `bndbox` lacks one of {', '.join(_CORNERS)}; give "
            "four numbers."
        ) from error
    corners[:2] = [corners[0] - 1, corners[1] - 1]  # pixels are counted from 1
    return [float(classes.index(name)), *corners, float(each.findtext("difficult", "0") == "1")]
