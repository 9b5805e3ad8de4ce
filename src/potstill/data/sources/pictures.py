"""Columns of encoded images as one array of pixels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from potstill.data.arrays import Array, resized
from potstill.errors import DataError, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]


def read_pictures(
    parts: Mapping[str, "Dataset"],
    *,
    column: str,
    resize: tuple[int, int] | None,
    channels: int | None,
) -> dict[str, Array]:
    """`[N, H, W, C]` uint8 for each part.

    Args:
        parts: data sets with a column of images.
        column: its name.
        resize: height and width to bring every image to; needed when they differ.
        channels: 1 (grey) or 3 (colour); `None` is 1 if every training image is grey.

    Raises:
        DataError: an image that is broken, missing, or of another size than the first.
    """
    if channels not in (None, 1, 3):
        raise RecipeError(f"`channels` must be 1 (grey) or 3 (colour), got {channels}.")
    arrays: dict[str, Array] = {}
    for part in sorted(parts, key=lambda name: name != "train"):  # training first
        decoded = _decoded(parts[part], column, part=part, resize=resize)
        if channels is None:
            channels = 1 if all(image.shape[2] == 1 for image in decoded) else 3
        arrays[part] = _stacked([_with_channels(i, channels) for i in decoded], part=part)
    return {part: arrays[part] for part in parts}


def _decoded(
    dataset: "Dataset", column: str, *, part: str, resize: tuple[int, int] | None
) -> list[Pixels]:
    images = dataset[column]
    decoded = []
    for row in range(len(dataset)):
        try:
            image = images[row]
            pixels = None if image is None else _pixels(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(
                f"The image in row {row} of the {part} part cannot be decoded ({error}); replace "
                "or remove it."
            ) from error
        if pixels is None:
            raise DataError(f"Row {row} of the {part} part has no image; remove the row.")
        decoded.append(pixels if resize is None else _resized(pixels, resize))
    return decoded


def _pixels(image: "Image") -> Pixels:
    """`[H, W, 1]` for grey images of 8 bits or 1, `[H, W, 3]` for all others."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode} has more than 8 bits a pixel")
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image.convert("RGB"))


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    return np.asarray(resized(image, size)[0].permute(1, 2, 0))


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Grey to colour by repeating, colour to grey by ITU-R 601 weights."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return pixels.repeat(3, axis=2)
    grey: Pixels = np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return grey[:, :, None]


def _stacked(images: list[Pixels], *, part: str) -> Array:
    if not images:
        raise DataError(f"The {part} part has no image; give at least one row.")
    first = images[0].shape[:2]
    for row, image in enumerate(images):
        if image.shape[:2] != first:
            raise DataError(
                f"Images are of unequal size: {first[0]} x {first[1]} in row 0 and "
                f"{image.shape[0]} x {image.shape[1]} in row {row} of the {part} part; set "
                "`resize:` to a size such as 32 or [48, 64]."
            )
    return np.stack(images)
