"""Reads a run folder: every file of it may be missing, none of it may be broken.

A run that was interrupted has a recipe, stages and a history, and no results yet.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from potstill.errors import StorageError
from potstill.report.records import Json, Results

FORMAT = 1
_SIGNS_OF_A_RUN = ("results.json", "stages.json", "metrics.jsonl", "recipe.yaml")

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the pipeline and how far it came."""

    name: str
    state: str
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Logged:
    """One line of the history: what was averaged over an epoch, or scored after it."""

    role: str
    seed: int
    epoch: int
    split: str
    loss: float | None
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The contents of a run folder. Absent files are `None` or empty."""

    path: Path
    results: Results | None
    recipe: str
    compressed: Mapping[str, Json] | None
    environment: Mapping[str, Json]
    stages: tuple[Stage, ...]
    history: tuple[Logged, ...]
    predictions: Arrays
    samples: Arrays
    measured: Mapping[str, Json] = field(default_factory=dict)


def read_folder(path: Path) -> RunFolder:
    """Read all that is there.

    Raises:
        StorageError: this is not a run folder, a file is broken, or a newer Potstill wrote it.
    """
    if not any((path / name).is_file() for name in _SIGNS_OF_A_RUN):
        raise StorageError(
            f"`{path}` is not a run folder: none of {', '.join(_SIGNS_OF_A_RUN)} is in it. "
            "Give the folder that `potstill run` wrote, for example runs/digits."
        )
    results = _read_json(path / "results.json")
    return RunFolder(
        path=path,
        results=_results(results, path / "results.json"),
        recipe=_read_text(path / "recipe.yaml") or "",
        compressed=_read_json(path / "compress.json"),
        environment=_read_json(path / "environment.json") or {},
        stages=_stages(_read_json(path / "stages.json") or {}),
        history=_history(path / "metrics.jsonl"),
        predictions=_read_arrays(path / "predictions.npz"),
        samples=_read_arrays(path / "samples.npz"),
        measured=_read_json(path / "measure.json") or {},
    )


def _read_text(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"`{path}` cannot be read ({error}). Check its permissions, or run the recipe again."
        ) from error


def _read_json(path: Path) -> dict[str, Json] | None:
    text = _read_text(path)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise StorageError(
            f"`{path}` is not valid JSON (line {error.lineno}: {error.msg}). "
            "Remove the file and run the recipe again; finished stages are not repeated."
        ) from error
    if not isinstance(content, dict):
        raise StorageError(
            f"`{path}` holds a JSON {type(content).__name__} where an object was expected. "
            "Remove the file and run the recipe again; finished stages are not repeated."
        )
    _check_format(content.get("format", FORMAT), path)
    return content


def _check_format(found: Json, path: Path) -> None:
    if not isinstance(found, int) or found > FORMAT:
        raise StorageError(
            f"`{path}` has format {found!r} and this Potstill reads up to format {FORMAT}. "
            "Upgrade with:  pip install -U potstill"
        )


def _results(content: dict[str, Json] | None, path: Path) -> Results | None:
    if content is None:
        return None
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StorageError(
            f"`{path}` has `{where}` = {first['input']!r}: {first['msg'].lower()}. "
            "Remove the file and run the recipe again; finished stages are not repeated."
        ) from error


def _stages(content: Mapping[str, Json]) -> tuple[Stage, ...]:
    """Stages in order; the file maps names to records, or lists records with a name."""
    found = content.get("stages", {k: v for k, v in content.items() if k != "format"})
    if isinstance(found, list):
        pairs = [(str(s.get("name", "")), s) for s in found if isinstance(s, dict)]
    elif isinstance(found, dict):
        pairs = [(name, s) for name, s in found.items() if isinstance(s, dict)]
    else:
        pairs = []
    return tuple(
        Stage(name=name, state=str(s.get("state", "")), seconds=_number(s.get("seconds")))
        for name, s in pairs
    )


def _history(path: Path) -> tuple[Logged, ...]:
    """The lines of the history. A last line cut off by a kill is dropped; others must be whole."""
    lines = (_read_text(path) or "").splitlines()
    logged: list[Logged] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise StorageError(
                f"`{path}` is broken at line {number} ({error.msg}). "
                "Remove the file; the report is then made without the training curves."
            ) from error
        if isinstance(entry, dict):
            logged.append(_logged(entry))
    return tuple(logged)


def _logged(entry: Mapping[str, Json]) -> Logged:
    metrics = entry.get("metrics")
    numbers = {k: _number(v) for k, v in metrics.items()} if isinstance(metrics, dict) else {}
    return Logged(
        role=str(entry.get("role", "")),
        seed=int(_number(entry.get("seed")) or 0),
        epoch=int(_number(entry.get("epoch")) or 0),
        split=str(entry.get("split", "")),
        loss=_number(entry.get("loss")),
        metrics={name: value for name, value in numbers.items() if value is not None},
    )


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _read_arrays(path: Path) -> Arrays:
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise StorageError(
            f"`{path}` cannot be read as arrays ({error}). "
            "Remove the file; the report is then made without it."
        ) from error
