"""What detectors find in some test pictures: the truth, the teacher, the distilled student.

M boxes of the truth, K detections, both padded with class -1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from potstill.report.folder import RunFolder
from potstill.report.pictures import image_picture
from potstill.report.records import ROLES

SHOWN: Final = 6
"""Pictures on the page."""
TRUTH: Final = "truth"
ALIKE: Final = 0.5
"""Least overlap with a box of the truth for a detection to be right."""
NUM_HUES: Final = 6
"""Classes that have a colour of their own."""
_LEVELS = np.round(np.arange(0.05, 0.96, 0.05), 2)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One box on a picture, in pixels: a class's hue, and whether it is right (or was found)."""

    x: float
    y: float
    width: float
    height: float
    hue: int
    label: str
    right: bool


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture as somebody sees it; `said` counts."""

    who: str
    frames: tuple[Frame, ...]
    said: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A test picture and its panels: the truth, then each model."""

    id: int
    image: str
    width: int
    height: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures, the classes with their hues, and the least score that is shown by role."""

    scenes: tuple[Scene, ...]
    classes: tuple[tuple[str, int], ...]
    levels: Mapping[str, float]
    seed: int


def find_boxes(run: RunFolder) -> Gallery | None:
    """The gallery of a run about detection; nothing for others, or without the pictures.

    Each model's detections are shown from the score on at which the balance of what it misses and
    what it invents (F1 over all test pictures) is best, since scores of detectors mean different
    things.
    """
    if run.results is None or run.results.data.target_kind != "boxes":
        return None
    inputs, arrays = run.samples.get("inputs"), run.predictions
    if inputs is None or "labels" not in arrays:
        return None
    found, seed = _chosen(arrays)
    labels, ids = arrays["labels"].astype(np.float64), arrays["ids"]
    levels = {role: _best_level(each, labels) for role, each in found.items()}
    rows = {int(sample): row for row, sample in enumerate(ids)}
    names = run.results.data.classes or ()
    scenes = [
        _scene(int(sample), inputs[at], labels[rows[int(sample)]], names,
               {role: _sure(each[rows[int(sample)]], levels[role]) for role, each in found.items()})
        for at, sample in _spread(run.samples["ids"], labels, rows)
    ]  # fmt: skip
    return Gallery(
        scenes=tuple(scenes),
        classes=tuple((name, number % NUM_HUES) for number, name in enumerate(names)),
        levels=levels,
        seed=seed,
    )


def _chosen(arrays: Mapping[str, NDArray[np.generic]]) -> tuple[dict[str, Floats], int]:
    """`[N, K, 6]` of teacher and distilled (and scratch), of one seed, and the seed."""
    seeds = [int(n.rpartition("_")[2]) for n in arrays if n.startswith("distilled_")]
    seed = min(seeds, default=0)
    keys = {role: f"{role}_{0 if role == 'teacher' else seed}" for role in ROLES}
    found = {
        role: arrays[key].astype(np.float64).reshape(len(arrays[key]), -1, 6)
        for role, key in keys.items()
        if key in arrays
    }
    return found, seed


def _spread(
    samples: NDArray[np.generic], labels: Floats, rows: Mapping[int, int]
) -> list[tuple[int, int]]:
    """Places and ids of pictures with many classes first, at most `SHOWN`."""
    known = [(at, int(sample)) for at, sample in enumerate(samples) if int(sample) in rows]

    def variety(each: tuple[int, int]) -> int:
        classes = labels[rows[each[1]], :, 0]
        return len(set(classes[classes >= 0].tolist()))

    return sorted(known, key=lambda each: (-variety(each), each[1]))[:SHOWN]


def _sure(found_K6: Floats, level: float) -> Floats:
    return found_K6[(found_K6[:, 5] >= 0) & (found_K6[:, 4] >= level)]


def _best_level(found: Floats, labels: Floats) -> float:
    """The score from which on F1 over all pictures is best."""
    best, chosen = -1.0, float(_LEVELS[0])
    for level in _LEVELS:
        hits = made = true = 0
        for each, truth in zip(found, labels, strict=True):
            sure, real = _sure(each, level), truth[(truth[:, 0] >= 0) & (truth[:, 5] < 0.5)]
            hits += int((_matches(sure, real) >= 0).sum())
            made += len(sure)
            true += len(real)
        score = 2 * hits / max(made + true, 1)
        if score > best:
            best, chosen = score, float(level)
    return chosen


def _matches(found_D6: Floats, truth_E6: Floats) -> NDArray[np.int64]:
    """`[D]`: the box of the truth that each detection is of, best score first; -1 for none."""
    match = np.full(len(found_D6), -1, dtype=np.int64)
    if not len(found_D6) or not len(truth_E6):
        return match
    a, b = found_D6[:, None, :4], truth_E6[None, :, 1:5]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(-1)
    whole = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    same = shared / np.maximum(whole, 1e-9) * (found_D6[:, 5:6] == truth_E6[None, :, 0])
    for row in np.argsort(-found_D6[:, 4], kind="stable"):
        best = int(same[row].argmax())
        if same[row, best] >= ALIKE:
            match[row] = best
            same[:, best] = 0.0
    return match


def _scene(
    sample: int,
    pixels_CHW: NDArray[np.generic],
    labels_M6: Floats,
    names: tuple[str, ...],
    found: Mapping[str, Floats],
) -> Scene:
    truth = labels_M6[(labels_M6[:, 0] >= 0) & (labels_M6[:, 5] < 0.5)]
    matches = {role: _matches(each, truth) for role, each in found.items()}
    seen = set(matches["distilled"].tolist()) if "distilled" in matches else set(range(len(truth)))
    drawn = [_frame(box[1:5], box[0], names, right=i in seen) for i, box in enumerate(truth)]
    panels = [
        Panel(
            who=TRUTH,
            frames=tuple(drawn),
            said=f"{len(truth)} box{'' if len(truth) == 1 else 'es'}",
        )
    ]
    for role, each in found.items():
        right = matches[role] >= 0
        frames = [
            _frame(d[:4], d[5], names, right=bool(r)) for d, r in zip(each, right, strict=True)
        ]
        wrong = f", {int((~right).sum())} too many" if (~right).any() else ""
        said = f"{int(right.sum())} of {len(truth)} found{wrong}"
        panels.append(Panel(who=role, frames=tuple(frames), said=said))
    return Scene(
        id=sample,
        image=image_picture(pixels_CHW, longest=MOST_PIXELS).image,
        width=pixels_CHW.shape[2],
        height=pixels_CHW.shape[1],
        panels=tuple(panels),
    )


MOST_PIXELS: Final = 320
"""A side of a picture on the page."""


def _frame(corners: Floats, number: float, names: tuple[str, ...], *, right: bool) -> Frame:
    x1, y1, x2, y2 = (round(float(value), 1) for value in corners)
    index = int(number)
    return Frame(
        x=x1,
        y=y1,
        width=round(x2 - x1, 1),
        height=round(y2 - y1, 1),
        hue=index % NUM_HUES,
        label=names[index] if index < len(names) else str(index),
        right=right,
    )
