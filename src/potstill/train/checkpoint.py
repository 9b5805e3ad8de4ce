"""The state of a training, saved whole and read back without running code."""

import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import final

import torch

from potstill.errors import StorageError
from potstill.runtime.files import write_with

State = dict[str, object]


@final
class Checkpoint:
    """One file that is replaced now and then.

    Args:
        path: the file; `None` saves nothing.
        seconds: the least time between two saves that are not forced.
    """

    def __init__(self, path: Path | None, *, seconds: float) -> None:
        self.path, self._seconds = path, seconds
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to save again."""
        return self.path is not None and time.monotonic() - self._saved_at >= self._seconds

    def save(self, state: Mapping[str, object]) -> None:
        """Replace the file."""
        if self.path is not None:
            write_with(self.path, lambda temporary: torch.save(dict(state), temporary))
            self._saved_at = time.monotonic()

    def load(self) -> State | None:
        """What was saved last, or `None`. Remains of a save that was killed are cleared away."""
        if self.path is None:
            return None
        for part in self.path.parent.glob(f".{self.path.name}.*.part"):
            part.unlink(missing_ok=True)
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
            raise StorageError(
                f"The checkpoint {self.path} is damaged and cannot be read. "
                "Delete it to start this stage over."
            ) from error
        assert isinstance(state, dict), "as `save` wrote it"
        return state

    def remove(self) -> None:
        """Delete the file: the training is over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
