"""Sound files by name, by folder or from `datasets`: decoded with `soundfile`, one channel."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from potstill.data.arrays import Array
from potstill.data.options import Options
from potstill.data.sounds import Wave, to_int16
from potstill.data.sources import hf
from potstill.errors import DataError, RecipeError, need

if TYPE_CHECKING:
    from datasets import Dataset

READING = frozenset(
    {"inputs", "label", "text", "splits", "config", "revision", "label_pattern", "test_pattern"}
)
SOUNDS = frozenset({".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif"})


@final
@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One part: waves as they were recorded, and what is said about them."""

    waves: list[Wave]
    rates: list[int]
    labels: Array | None = None
    texts: list[str] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Recordings:
    """What was found in one place."""

    name: str
    parts: Mapping[str, Recorded]
    classes: tuple[str, ...] | None = None


def read_recordings(path: str, options: Options, *, texts: bool) -> Recordings:
    """The sounds in a folder or behind a hub id, with labels or with texts."""
    need("soundfile", extra="audio")
    folder = Path(path).expanduser()
    if not folder.is_dir() and path[:1] in "./~":
        raise DataError(f"There is no folder `{path}`; check `path:` (relative to {Path.cwd()}).")
    if folder.is_dir() and (not texts or options.text("label_pattern")):
        return _from_files(folder, options)
    name, loaded = hf.open_parts(path, options, form="audiofolder")
    column = options.text("inputs") or "audio"
    return Recordings(
        name=name,
        parts={
            part: _from_columns(table, column, options, part=part, texts=texts)
            for part, table in loaded.items()
        },
        classes=_class_names(loaded["train"], options.text("label") or "label"),
    )


def _from_files(folder: Path, options: Options) -> Recordings:
    """Files by name: of one folder a class, or with the label in each name."""
    pattern, test = _pattern(options, "label_pattern"), _pattern(options, "test_pattern")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SOUNDS)
    if not files:
        raise DataError(
            f"Folder `{folder}` holds no sound ({', '.join(sorted(SOUNDS))}); check `path:`."
        )
    rows: dict[str, list[tuple[Path, str]]] = {}
    for file in files:
        is_test = test is not None and test.search(file.name) is not None
        part, label = "test" if is_test else "train", file.parent.name
        if pattern is not None:
            found = pattern.search(file.name)
            if found is None:
                raise DataError(
                    f"`label_pattern: {pattern.pattern}` does not match `{file.name}`; correct it, "
                    "or move the file away."
                )
            label = found[1] if pattern.groups else found[0]
        elif test is None and file.parent.parent.name in ("train", "validation", "test"):
            part = file.parent.parent.name
        rows.setdefault(part, []).append((file, label))
    classes = tuple(sorted({label for part in rows.values() for _, label in part}))
    parts = {}
    for part, each in rows.items():
        decoded = [_decoded(file.read_bytes(), str(file)) for file, _ in each]
        parts[part] = Recorded(
            waves=[wave for wave, _ in decoded],
            rates=[rate for _, rate in decoded],
            labels=np.array([classes.index(label) for _, label in each], dtype=np.int64),
        )
    return Recordings(name=folder.name, parts=parts, classes=classes)


def _pattern(options: Options, key: str) -> re.Pattern[str] | None:
    text = options.text(key)
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise RecipeError(f"`{key}: {text}` is no regular expression ({error}).") from error


def _from_columns(
    table: "Dataset", column: str, options: Options, *, part: str, texts: bool
) -> Recorded:
    told = (options.text("text") or "text") if texts else (options.text("label") or "label")
    for name in (column, told):
        if name not in table.column_names:
            raise DataError(
                f"The {part} part has no column `{name}`, only "
                f"{', '.join(f'`{c}`' for c in table.column_names)}; choose with `inputs:` and "
                f"`{'text' if texts else 'label'}:`."
            )
    found = list(_sounds_in(table, column, part=part))
    values = table[told][:]
    return Recorded(
        waves=[wave for wave, _ in found],
        rates=[rate for _, rate in found],
        labels=None if texts else np.asarray(values),
        texts=[str(value) for value in values] if texts else None,
    )


def _sounds_in(table: "Dataset", column: str, *, part: str) -> Iterator[tuple[Wave, int]]:
    """Decoded here, so that no further library for that is asked for."""
    datasets = need("datasets", extra="data")
    encoded = table.cast_column(column, datasets.Audio(decode=False))
    for row, cell in enumerate(encoded[column]):
        content = None if cell is None else cell.get("bytes")
        if content is None and cell is not None and cell.get("path"):
            content = Path(cell["path"]).read_bytes()
        if content is None:
            raise DataError(f"Row {row} of the {part} part has no sound; remove the row.")
        yield _decoded(content, f"row {row} of the {part} part")


def _decoded(content: bytes, place: str) -> tuple[Wave, int]:
    """One channel, the mean of all, and its samples a second."""
    soundfile = need("soundfile", extra="audio")
    try:
        values_LC, rate = soundfile.read(io.BytesIO(content), dtype="float64", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"The sound in {place} cannot be decoded ({str(error).strip()}); replace or remove it."
        ) from error
    return to_int16(values_LC.mean(axis=1)), int(rate)


def _class_names(table: "Dataset", column: str) -> tuple[str, ...] | None:
    names = getattr(table.features.get(column), "names", None)
    return None if names is None else tuple(names)
