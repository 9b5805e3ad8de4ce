"""Figures from detections as arrays, `[N, 6 * K]`: corners, score and class (-1: none) each.

NumPy only. Average precision is the metric of the task; these describe models afterwards.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SURE: Final = 0.5
"""Least score of a detection that counts here."""
ALIKE: Final = 0.5
"""Least overlap of two detections of the same thing."""


def sure_boxes(row: Floats, *, least: float = SURE) -> NDArray[np.float64]:
    """`[D, 6]`: the detections of a picture that are sure enough, best first."""
    found = row.reshape(-1, 6).astype(np.float64)
    return np.asarray(found[(found[:, 5] >= 0) & (found[:, 4] >= least)])


def overlaps(a_D4: Floats, b_E4: Floats) -> NDArray[np.float64]:
    """`[D, E]` intersections over unions."""
    low = np.maximum(a_D4[:, None, :2], b_E4[None, :, :2])
    high = np.minimum(a_D4[:, None, 2:], b_E4[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=-1) for b in (a_D4, b_E4)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12))


def matched(
    boxes_D4: Floats, classes_D: Floats, truth_E4: Floats, truth_classes_E: Floats
) -> NDArray[np.int64]:
    """`[D]`: to which of the others each belongs, in turn, best overlap first; -1 for none."""
    match = np.full(len(boxes_D4), -1)
    if not len(boxes_D4) or not len(truth_E4):
        return match
    same = overlaps(boxes_D4, truth_E4) * (classes_D[:, None] == truth_classes_E[None])
    for row in range(len(boxes_D4)):
        best = int(same[row].argmax())
        if same[row, best] >= ALIKE:
            match[row] = best
            same[:, best] = 0.0
    return match


def box_agreement(a: Floats, b: Floats) -> float:
    """Of the sure detections that either makes, the share that both make; 1 if there are none."""
    both = either = 0
    for mine, theirs in zip(a, b, strict=True):
        one, other = sure_boxes(mine), sure_boxes(theirs)
        common = int((matched(one[:, :4], one[:, 5], other[:, :4], other[:, 5]) >= 0).sum())
        both += common
        either += len(one) + len(other) - common
    return both / either if either else 1.0


def counts(outputs: Floats, *, num_classes: int) -> NDArray[np.float64]:
    """`[N, C]`: how many sure detections of each class a picture has."""
    rows = [
        np.bincount(sure_boxes(row)[:, 5].astype(int), minlength=num_classes) for row in outputs
    ]
    return np.asarray(np.stack(rows), dtype=np.float64)
