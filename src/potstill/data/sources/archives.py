"""NumPy archives of sounds of unequal length: all waves end to end, and where each begins."""

import zipfile
import zlib
from collections.abc import Mapping
from lzma import LZMAError
from pathlib import Path

import numpy as np

from potstill.data.arrays import Array
from potstill.data.options import JSON, Options, nearest
from potstill.data.sources.recordings import Recorded, Recordings
from potstill.errors import DataError

MEMBERS = ("pcm", "offset", "label", "is_test", "sampling_rate")
_NEEDED = MEMBERS[:3]


def read_archive(path: Path, options: Options) -> Recordings:
    """The archive's sounds, by the official division if it has one.

    Raises:
        DataError: no such file or member, offsets that do not fit, or no sampling rate.
    """
    if not path.is_file():
        raise DataError(f"There is no file `{path}`; check `path:` (relative to {Path.cwd()}).")
    try:
        members = _members(path, options.mapping("keys"))
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"`{path}` cannot be read as a NumPy archive ({error}); save it again with "
            "numpy.savez_compressed."
        ) from error
    pcm, offset, labels = (members[name] for name in _NEEDED)
    _check(path, pcm, offset, labels)
    rate = options.whole("recorded_at")
    if rate is None and "sampling_rate" in members:
        rate = int(members["sampling_rate"])
    if rate is None:
        raise DataError(
            f"`{path}` does not say how many samples a second its sounds have; give "
            "`recorded_at:`, such as 8000."
        )
    tested = members.get("is_test", np.zeros(len(labels), dtype=bool)).astype(bool)
    parts = {}
    for part, chosen in (("train", ~tested), ("test", tested)):
        rows = np.flatnonzero(chosen)
        if len(rows):
            parts[part] = Recorded(
                waves=[pcm[offset[row] : offset[row + 1]].astype(np.int16) for row in rows],
                rates=[rate] * len(rows),
                labels=labels[rows],
            )
    return Recordings(name=path.stem, parts=parts)


def _members(path: Path, keys: Mapping[str, JSON]) -> dict[str, Array]:
    names = Options(keys, known=MEMBERS, owner="`keys:`")
    with np.load(path, allow_pickle=False) as archive:
        found = {}
        for role in MEMBERS:
            name = names.text(role) or role
            if name in archive.files:
                found[role] = archive[name]
            elif role in _NEEDED:
                raise DataError(
                    f"`{path}` has no member `{name}`; {nearest(name, archive.files)} Sounds need "
                    "`pcm`, `offset` and `label`."
                )
        return found


def _check(path: Path, pcm: Array, offset: Array, labels: Array) -> None:
    if pcm.ndim != 1 or pcm.dtype != np.int16:
        raise DataError(
            f"`pcm` of `{path}` is {pcm.dtype} of shape {pcm.shape}; one row of int16 is expected."
        )
    fits = len(offset) == len(labels) + 1 and int(offset[0]) >= 0 and int(offset[-1]) <= len(pcm)
    if not fits or bool((np.diff(offset.astype(np.int64)) < 0).any()):
        raise DataError(
            f"`offset` of `{path}` has {len(offset)} numbers for {len(labels)} labels; it must "
            f"rise from 0 to {len(pcm)}, with one number more than there are labels."
        )
