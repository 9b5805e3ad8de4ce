"""NumPy archives: images, signals or tables with labels, by member name."""

import zipfile
import zlib
from collections.abc import Mapping
from lzma import LZMAError
from pathlib import Path

import numpy as np

from potstill.data.arrays import Array
from potstill.data.assembly import Raw
from potstill.data.options import JSON
from potstill.data.sources.members import choose, to_parts
from potstill.data.sources.request import Request
from potstill.errors import DataError

OPTIONS = frozenset({"path", "keys"})


def read(request: Request) -> Raw:
    """The archive at `path:`, such as `mnist.npz`.

    Its members are x_train and y_train (or x and y), and if there are such x_test, y_test, x_val,
    y_val, x_transfer, group_train, group_test. `keys: {y_train: fine}` names members that differ.

    Raises:
        DataError: no such file, no such member, not an archive, or Python objects within.
    """
    options = request.options
    path = Path(options.required("path", why="the .npz file")).expanduser()
    if not path.is_file():
        raise DataError(f"There is no file `{path}`; check `path:` (relative to {Path.cwd()}).")
    try:
        arrays = _arrays(path, keys=options.mapping("keys"))
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError) as error:
        raise DataError(
            f"`{path}` cannot be read as a NumPy archive ({error}); save it again with "
            "numpy.savez_compressed."
        ) from error
    return Raw(name=path.stem, parts=to_parts(arrays))


def _arrays(path: Path, *, keys: Mapping[str, JSON]) -> dict[str, Array]:
    """The members that are asked for, by their conventional names."""
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("not a zip archive")
    with np.load(path, allow_pickle=False) as archive:
        chosen = choose(archive.files, keys, owner=f"`{path}`")
        return {role: _member(archive, name, path=path) for role, name in chosen.items()}


def _member(archive: Mapping[str, Array], name: str, *, path: Path) -> Array:
    try:
        return archive[name]
    except ValueError as error:
        raise DataError(
            f"Member `{name}` of `{path}` cannot be read without running code ({error}); save it "
            "as numbers or text of one shape, not as Python objects."
        ) from error
