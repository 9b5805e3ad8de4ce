"""One picture from a file."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from potstill.errors import DataError, need


def read_photo(path: Path) -> npt.NDArray[np.uint8]:
    """`[H, W, 3]`, turned as its Exif says.

    Raises:
        DataError: there is no such file, or it is no picture.
        MissingExtra: Pillow is not installed.
    """
    image, ops = need("PIL.Image", extra="detection"), need("PIL.ImageOps", extra="detection")
    if not path.is_file():
        raise DataError(f"There is no picture `{path}`, which the annotations name.")
    try:
        with image.open(path) as opened:
            return np.asarray(ops.exif_transpose(opened).convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"`{path}` cannot be decoded as a picture ({error}); replace or remove it."
        ) from error
