"""Boxes on their way from annotations to tensors: fitted to a size, checked, padded.

A box is six numbers: class, corners x1, y1, x2, y2 in pixels, and 1 if it is to be ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch

from potstill.data.arrays import resized
from potstill.data.assembly import Raw, RawPart
from potstill.data.samples import Kind
from potstill.data.sources.request import Request
from potstill.errors import DataError

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]

NOTHING = -1.0
"""The class of a row of padding."""
LEAST = 1.0
"""Pixels: a box with a shorter side is left out, with a note."""
OUTSIDE = 1.5
"""Pixels that a box may reach over the edge (annotators count from 0 or from 1); it is cut off."""


@final
@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture and the boxes in it, as the source has them.

    Args:
        name: of the picture's file, for messages.
        pixels: `[H, W, 3]`.
        boxes: `[M, 6]`.
    """

    name: str
    pixels: Pixels
    boxes: Boxes


def assembled(
    parts: dict[str, list[Scene]], *, request: Request, name: str, classes: tuple[str, ...]
) -> Raw:
    """Arrays of one size: pictures scaled to fit, their rest black at the right and the bottom.

    Raises:
        DataError: pictures of unlike sizes and no `resize:`, boxes outside of their picture, a
            part without pictures.
    """
    notes: list[str] = []
    size = request.form.resize or _one_size(parts)
    most = max((len(scene.boxes) for scenes in parts.values() for scene in scenes), default=0)
    raw: dict[str, RawPart] = {}
    fitted_of: dict[str, list[tuple[Pixels, Boxes, int]]] = {}
    for part, scenes in parts.items():
        if not scenes:
            raise DataError(f"The {part} part of `{name}` has no picture; give at least one.")
        fitted = fitted_of[part] = [_fitted(scene, size, part=part) for scene in scenes]
        tiny = sum(count for _, _, count in fitted)
        if tiny:
            notes.append(f"{tiny} {part} boxes have a side below {LEAST:g} pixel and are left out.")
        raw[part] = RawPart(
            np.stack([pixels for pixels, _, _ in fitted]),
            np.stack([_padded(boxes, max(most, 1)) for _, boxes, _ in fitted]),
        )
    if not any(len(boxes) for _, boxes, _ in fitted_of["train"]):
        raise DataError(f"No training picture of `{name}` has a box; check the annotations.")
    return Raw(
        name=name, parts=raw, kind=Kind.IMAGE, layout="nhwc", classes=classes, notes=tuple(notes)
    )


def _one_size(parts: dict[str, list[Scene]]) -> tuple[int, int]:
    first: Scene | None = None
    for scene in (scene for scenes in parts.values() for scene in scenes):
        first = first or scene
        if scene.pixels.shape[:2] != first.pixels.shape[:2]:
            (h, w), (height, width) = first.pixels.shape[:2], scene.pixels.shape[:2]
            raise DataError(
                f"Pictures are of unequal size: {h} x {w} in `{first.name}` and {height} x {width} "
                f"in `{scene.name}`; set `resize:` to [height, width], to which each is fitted."
            )
    if first is None:
        raise DataError("There are no pictures; check `path:`.")
    return int(first.pixels.shape[0]), int(first.pixels.shape[1])


def _fitted(scene: Scene, size: tuple[int, int], *, part: str) -> tuple[Pixels, Boxes, int]:
    """The picture on a canvas of `size`, its boxes there, and how many were too small."""
    _check_inside(scene, part=part)
    height, width = scene.pixels.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    inner = (min(size[0], round(height * scale)), min(size[1], round(width * scale)))
    image = torch.from_numpy(np.array(scene.pixels)).permute(2, 0, 1)[None]
    canvas = np.zeros((*size, 3), dtype=np.uint8)
    canvas[: inner[0], : inner[1]] = resized(image, inner)[0].permute(1, 2, 0).numpy()
    boxes = scene.boxes.copy()
    across, down = inner[1] / width, inner[0] / height
    boxes[:, 1:5] *= np.array([across, down, across, down], dtype=np.float32)
    boxes[:, 1:5] = np.clip(boxes[:, 1:5], 0, [inner[1], inner[0]] * 2)
    large = (boxes[:, 3:5] - boxes[:, 1:3]).min(axis=1) >= LEAST
    return canvas, boxes[large], int((~large).sum())


def _check_inside(scene: Scene, *, part: str) -> None:
    height, width = scene.pixels.shape[:2]
    corners = scene.boxes[:, 1:5]
    low, high = corners.min(axis=1) < -OUTSIDE, corners.max(axis=1)
    beyond = (corners[:, [0, 2]].max(axis=1) > width + OUTSIDE) | (
        corners[:, [1, 3]].max(axis=1) > height + OUTSIDE
    )
    bad = np.flatnonzero(low | beyond | ~np.isfinite(high))
    if len(bad):
        x1, y1, x2, y2 = corners[bad[0]].tolist()
        raise DataError(
            f"Box {int(bad[0])} of `{scene.name}` ({part} part) has the corners ({x1:g}, {y1:g}) "
            f"and ({x2:g}, {y2:g}), outside of its picture of {width} x {height} pixels; correct "
            "the annotation, or check that the picture was not resized after it was made."
        )


def _padded(boxes: Boxes, rows: int) -> Boxes:
    padded = np.zeros((rows, 6), dtype=np.float32)
    padded[:, 0] = NOTHING
    padded[: len(boxes)] = boxes
    return padded


def stacked(rows: Sequence[Sequence[float]]) -> Boxes:
    """`[M, 6]`, also of none."""
    return np.array(rows, dtype=np.float32).reshape(-1, 6)
