"""Faster R-CNN of torchvision: its places are its region proposals, its classes come afterwards.

B samples, A anchors, K detections, M boxes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from potstill.errors import need
from potstill.models.detection.finding import as_targets, padded
from potstill.signals import Places

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.image_list import ImageList


@final
class TwoStage(nn.Module):
    """`backbone`, `rpn` and `roi_heads` of a Faster R-CNN of torchvision, whose names they keep.

    Args:
        detector: the whole.
        input_shape: of one image.
        keep: detections a picture, at most.
        grid: names the anchors.
    """

    def __init__(
        self, detector: "FasterRCNN", input_shape: tuple[int, ...], *, keep: int, grid: str
    ) -> None:
        super().__init__()
        self.backbone, self.rpn = detector.backbone, detector.rpn
        self.roi_heads = detector.roi_heads
        self.size, self.keep, self.grid = (input_shape[1], input_shape[2]), keep, grid

    def places(self, images_BCHW: Tensor) -> Places:
        """Of each anchor how likely it holds something, and the box that it proposes."""
        rpn_parts = need("torchvision.models.detection.rpn", extra="detection")
        maps: dict[str, Tensor] = self.backbone(images_BCHW)
        scores, moves = self.rpn.head(list(maps.values()))
        anchors = self.rpn.anchor_generator(self._images(images_BCHW), list(maps.values()))
        count = len(anchors[0])
        scores, moves = rpn_parts.concat_box_prediction_layers(scores, moves)
        boxes = self.rpn.box_coder.decode(moves, anchors)
        return Places(
            scores_BAC=scores.view(-1, count, 1),
            boxes_BA4=boxes.reshape(-1, count, 4),
            reader=self,
            grid=self.grid,
            state=maps,
        )

    def _images(self, images_BCHW: Tensor) -> "ImageList":
        lists = need("torchvision.models.detection.image_list", extra="detection")
        made: ImageList = lists.ImageList(images_BCHW, [self.size] * len(images_BCHW))
        return made

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """`[B, K, 6]`: what is found (proposals differ in number, so there are no fixed places)."""
        return self.found(self.places(images_BCHW))

    @torch.no_grad()
    def found(self, places: Places) -> Tensor:
        """See `signals.BoxReader`."""
        maps, size = dict(places.state), len(places.scores_BAC)
        blank = next(iter(maps.values())).new_zeros(size, 1, *self.size)
        with _mode(self.rpn, training=False), _mode(self.roi_heads, training=False):
            proposals, _ = self.rpn(self._images(blank), maps)
            answers, _ = self.roi_heads(maps, proposals, [self.size] * size)
        rows = [
            torch.cat([a["boxes"], a["scores"][:, None], a["labels"][:, None].float() - 1], dim=1)
            for a in answers
        ]
        return torch.stack([padded(each, self.keep) for each in rows])

    def losses(self, places: Places, labels_BM6: Tensor) -> Mapping[str, Tensor]:
        """Four losses of each picture, `[B]`; which proposals they look at is drawn."""
        rows: list[dict[str, Tensor]] = []
        with _mode(self.rpn, training=True), _mode(self.roi_heads, training=True):
            for number, target in enumerate(as_targets(labels_BM6, first_class=1)):
                maps = {name: m[number : number + 1] for name, m in places.state.items()}
                blank = next(iter(maps.values())).new_zeros(1, 1, *self.size)
                proposals, first = self.rpn(self._images(blank), maps, [target])
                _, second = self.roi_heads(maps, proposals, [self.size], [target])
                rows.append({**first, **second})
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@contextmanager
def _mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    before = {each: each.training for each in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for each, was in before.items():
            each.training = was
