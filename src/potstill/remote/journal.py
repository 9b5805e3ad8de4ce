"""Answers as they came, in a file that is only ever added to: whoever is killed goes on from it."""

import json
import os
import threading
from pathlib import Path
from typing import final

from potstill.errors import StorageError
from potstill.runtime.files import FORMAT, storing

_HEAD = "potstill answers"


@final
class Journal:
    """Answers by key, one line each. A last line that was cut by a kill is removed.

    Args:
        path: the file; made if there is none.

    Raises:
        StorageError: the file cannot be read or written, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._places: dict[str, tuple[int, int]] = {}
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._end = self._read()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> dict[str, object] | None:
        """The answer under a key."""
        place = self._places.get(key)
        if place is None:
            return None
        start, length = place
        found: dict[str, object] = json.loads(os.pread(self._file, length, start))["answer"]
        return found

    def put(self, key: str, answer: dict[str, object]) -> None:
        """Keep an answer; when this returns, it survives a kill of this process."""
        line = (json.dumps({"key": key, "answer": answer}) + "\n").encode()
        with self._lock, storing(self.path):
            os.pwrite(self._file, line, self._end)
            self._places[key] = (self._end, len(line))
            self._end += len(line)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def _read(self) -> int:
        """Find every whole line, and cut what comes after the last of them."""
        content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        end = content.rfind(b"\n") + 1
        os.ftruncate(self._file, end)
        if not end:
            head = (json.dumps({"format": FORMAT, "kind": _HEAD}) + "\n").encode()
            return os.pwrite(self._file, head, 0)
        start = 0
        for number, line in enumerate(content[:end].splitlines(keepends=True)):
            found = _parsed(line)
            if number == 0 and found.get("kind") != _HEAD:
                raise StorageError(
                    f"{self.path} holds something else than answers of a server; move it away, or "
                    "choose another place."
                )
            if number and isinstance(key := found.get("key"), str):
                self._places[key] = (start, len(line))
            start += len(line)
        return end


def _parsed(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
