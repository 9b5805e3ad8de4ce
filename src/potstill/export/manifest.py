"""`manifest.json`: what was exported, with a digest of every file, and whether it still is so.

It notices damage and mix-ups. It is not signed: whoever can change a file can change it too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from potstill import __version__
from potstill.errors import ExportError
from potstill.runtime.files import read_json, write_json

MANIFEST = "manifest.json"
BEYOND = ".data"
"""Ends the name of the file of weights beside an ONNX file of more than 2 GB."""


class Artefact(TypedDict):
    """One exported form of a student; `files` are the digests (SHA-256) of all its files."""

    format: str
    file: str
    role: str
    seed: int
    precision: str
    bytes: int
    files: dict[str, str]
    parity: Mapping[str, object]


class Refused(TypedDict):
    """A form that was asked for and not shipped."""

    format: str
    role: str
    reason: str


def artefacts_in(folder: Path, role: str | None = None) -> list[Artefact]:
    """What the manifest of a folder lists, of one role or of all; nothing without a manifest.

    Raises:
        StorageError: the manifest cannot be read.
    """
    return [a for a in _listed(folder, "artefacts") if role in (None, a["role"])]


def refused_in(folder: Path, role: str) -> list[Refused]:
    """What was asked for and not shipped."""
    found = cast("list[Refused]", _listed(folder, "refused"))
    return [one for one in found if one["role"] == role]


def write_manifest(
    folder: Path,
    artefacts: Sequence[Artefact],
    *,
    refused: Sequence[Refused] = (),
    beside: Sequence[Path] = (),
) -> Path:
    """List artefacts and the files that belong to all of them.

    Args:
        folder: where all of them are.
        artefacts: with their digests.
        refused: what is missing, and why.
        beside: labels, tokenizer and so on; folders stand for their files.
    """
    common = [file for path in beside for file in _files(path)]
    content: dict[str, object] = {
        "potstill_version": __version__,
        "artefacts": list(artefacts),
        "refused": list(refused),
        "beside": {file.relative_to(folder).as_posix(): digest_of(file) for file in common},
    }
    write_json(folder / MANIFEST, content)
    return folder / MANIFEST


def artefact_files(path: Path) -> dict[str, str]:
    """The digests of a file and of the weights beside it, by name."""
    both = [path, path.with_name(path.name + BEYOND)]
    return {file.name: digest_of(file) for file in both if file.is_file()}


def digest_of(path: Path) -> str:
    """SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_artefact(path: Path) -> Artefact:
    """What the manifest says of a file, if all that belongs to it is as it was exported.

    Raises:
        ExportError: the file, or one that it needs, is missing, altered or unknown.
        StorageError: the manifest cannot be read.
    """
    if not path.is_file():
        raise ExportError(f"{path} does not exist; give a file that `potstill export` wrote.")
    folder = path.parent
    if not (folder / MANIFEST).is_file():
        raise ExportError(
            f"{path} has no {MANIFEST} beside it, so nothing says what it should hold; copy the "
            "whole folder that `potstill export` wrote."
        )
    artefact = next((a for a in artefacts_in(folder) if path.name in a["files"]), None)
    if artefact is None:
        known = ", ".join(a["file"] for a in artefacts_in(folder)) or "nothing"
        raise ExportError(
            f"{path.name} is not in {folder / MANIFEST} (it lists {known}); export it again."
        )
    beside = cast("Mapping[str, str]", read_json(folder / MANIFEST).get("beside", {}))
    for name, expected in {**artefact["files"], **beside}.items():
        _compare(folder / name, expected)
    return artefact


def _compare(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ExportError(f"{path} is missing and the manifest lists it; copy the whole folder.")
    found = digest_of(path)
    if found != expected:
        raise ExportError(
            f"{path} is corrupt or was altered after the export: its SHA-256 begins with "
            f"{found[:12]}, and {expected[:12]} was written; copy or export it again."
        )


def _listed(folder: Path, key: str) -> list[Artefact]:
    path = folder / MANIFEST
    return cast("list[Artefact]", read_json(path).get(key, [])) if path.is_file() else []


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []
