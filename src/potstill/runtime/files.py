"""Files that are whole or absent: written under a temporary name, then renamed."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from potstill.errors import StorageError

FORMAT = 1  # of every JSON file Potstill writes


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into one sentence that names the path."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(_sentence(path, error)) from error


def _sentence(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk is full: {path} could not be written. Free some space and run again."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return (
            f"No permission to write {path}. "
            "Choose another folder with --out, or change the permissions."
        )
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return (
            f"{path} cannot be written: a file is where a folder should be. Choose another --out."
        )
    return f"{path} could not be written ({error.strerror or error}). Choose another --out."


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_with(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object with its format number first; inf and NaN are refused."""
    write_text(path, json.dumps({"format": FORMAT, **content}, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, object]:
    """Read what `write_json` wrote, refusing files of a newer format."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise StorageError(
            f"{path} is not valid JSON ({error}). Delete it and run again to write it anew."
        ) from error
    if not isinstance(content, dict) or content.get("format", 0) != FORMAT:
        raise StorageError(
            f"{path} has format {content.get('format') if isinstance(content, dict) else None!r}, "
            f"this version of Potstill reads {FORMAT}. Update Potstill, or run again."
        )
    return content


def take_lock(folder: Path, *, refusal: str) -> IO[str]:
    """Keep other processes out of a folder until the file is closed or this process dies.

    Raises:
        StorageError: with `refusal`, if another process is in it.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w", encoding="utf-8")
    try:
        _take(lock)
    except OSError as error:
        lock.close()
        raise StorageError(refusal) from error
    return lock


def _take(lock: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
