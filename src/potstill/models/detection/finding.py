"""From scores and boxes at places to what is found: thresholds, suppression, padding.

B samples, A places, C classes, K detections kept.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from potstill.errors import ModelError, need

if TYPE_CHECKING:
    from collections.abc import Mapping

CANDIDATES = 1000
"""Scores that go into suppression, at most."""


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """How detections are chosen among places.

    Args:
        size: height and width of the input; boxes are cut to it.
        keep: K, the most of them in a picture.
        threshold: scores below it are nothing.
        overlap: of two boxes of one class with a larger intersection over union the weaker one
            goes; 1 keeps all, for detectors that ask each thing once (queries).

    Raises:
        ModelError: a number out of range.
    """

    size: tuple[int, int]
    keep: int = 100
    threshold: float = 0.05
    overlap: float = 0.6

    def __post_init__(self) -> None:
        if self.keep < 1 or not 0 <= self.threshold < 1 or not 0 < self.overlap <= 1:
            raise ModelError(
                f"`keep: {self.keep}` must be 1 or more, `threshold: {self.threshold}` at least 0 "
                f"and below 1, `overlap: {self.overlap}` above 0 and at most 1."
            )

    @torch.no_grad()
    def __call__(self, scores_BAC: Tensor, boxes_BA4: Tensor) -> Tensor:
        """`[B, K, 6]`, best first: corners, score, class; class -1 and score 0 where nothing is."""
        rows = [
            self._picked(s, b) for s, b in zip(scores_BAC.float(), boxes_BA4.float(), strict=True)
        ]
        return torch.stack([padded(each, self.keep) for each in rows])

    def _picked(self, scores_AC: Tensor, boxes_A4: Tensor) -> Tensor:
        flat = scores_AC.flatten()
        best = flat.topk(min(CANDIDATES, len(flat)))
        sure = best.values > self.threshold
        scores, places = best.values[sure], best.indices[sure]
        classes = places % scores_AC.shape[1]
        boxes = clipped(boxes_A4[places // scores_AC.shape[1]], self.size)
        if self.overlap < 1:
            ops = need("torchvision.ops", extra="detection")
            kept = ops.batched_nms(boxes, scores, classes, self.overlap)[: self.keep]
        else:
            kept = torch.arange(min(self.keep, len(scores)), device=scores.device)
        return torch.cat([boxes[kept], scores[kept, None], classes[kept, None].float()], dim=1)


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The same corners, cut to the picture."""
    height, width = size
    return torch.stack([boxes[..., i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=-1)


def padded(found_D6: Tensor, rows: int) -> Tensor:
    """`[rows, 6]`: some detections, best first, and rows of nothing."""
    nothing = found_D6.new_zeros(rows, 6)
    nothing[:, 5] = -1
    nothing[: len(found_D6)] = found_D6[:rows]
    return nothing


def listed(labels_M6: Tensor) -> tuple[Tensor, Tensor]:
    """Corners `[G, 4]` and classes `[G]` of the boxes to be learnt, of one row of labels."""
    learnt = (labels_M6[:, 0] >= 0) & (labels_M6[:, 5] < 0.5)
    return labels_M6[learnt, 1:5], labels_M6[learnt, 0].long()


def as_targets(labels_BM6: Tensor, *, first_class: int = 0) -> "list[Mapping[str, Tensor]]":
    """As torchvision's detectors take them."""
    pairs = [listed(each) for each in labels_BM6]
    return [{"boxes": boxes, "labels": classes + first_class} for boxes, classes in pairs]
