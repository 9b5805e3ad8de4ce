"""RetinaNet, FCOS and SSD of torchvision: scores and boxes at anchors that are known beforehand.

B samples, A anchors, C classes, M boxes.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from potstill.errors import need
from potstill.models.detection.finding import Finding, as_targets
from potstill.runtime.modes import evaluating
from potstill.signals import Places

if TYPE_CHECKING:
    from torchvision.models.detection import FCOS, SSD, RetinaNet


@final
class OneStage(nn.Module):
    """`backbone` and `head` of a detector of torchvision, whose names they keep.

    Args:
        detector: the whole; its other parts have no weights and are used from it.
        input_shape: of one image.
        family: `retinanet`, `fcos` or `ssdlite`.
        anchors: names them, for comparisons with other models.
        finding: how detections are chosen.
    """

    anchors: Tensor

    def __init__(
        self,
        detector: "FCOS | RetinaNet | SSD",
        input_shape: tuple[int, ...],
        *,
        family: str,
        anchors: str,
        finding: Finding,
    ) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head
        self.family, self.finding = family, finding
        self.first_class = int(family == "ssdlite")  # 0 is nothing there
        self._whole = (detector,)  # in a tuple: its weights are listed once
        with evaluating(self.backbone), torch.no_grad():
            maps = list(self.backbone(torch.zeros(1, *input_shape)).values())
        images = need("torchvision.models.detection.image_list", extra="detection").ImageList(
            torch.zeros(1, *input_shape), [(input_shape[1], input_shape[2])]
        )
        self.register_buffer(
            "anchors", detector.anchor_generator(images, maps)[0], persistent=False
        )
        cells = [each.shape[2] * each.shape[3] for each in maps]
        each_cell = len(self.anchors) // sum(cells)
        self.level_sizes = [count * each_cell for count in cells]
        self.grid = f"{family} {self.level_sizes} {anchors}"

    def places(self, images_BCHW: Tensor) -> Places:
        """What the heads say; `state` holds them as torchvision's losses take them."""
        said: dict[str, Tensor] = self.head(list(self.backbone(images_BCHW).values()))
        scores_BAC, exclusive = said["cls_logits"], self.family == "ssdlite"
        if exclusive:  # torchvision's first column is nothing there
            scores_BAC = torch.cat([scores_BAC[..., 1:], scores_BAC[..., :1]], dim=-1)
        return Places(
            scores_BAC=scores_BAC,
            boxes_BA4=self._boxes(said["bbox_regression"]),
            reader=self,
            grid=self.grid,
            exclusive=exclusive,
            state=said,
        )

    def _boxes(self, moves_BA4: Tensor) -> Tensor:
        coder = self._whole[0].box_coder
        anchors_BA4 = self.anchors.expand_as(moves_BA4)
        if self.family == "fcos":
            return torch.as_tensor(coder.decode(moves_BA4, anchors_BA4))
        flat = coder.decode_single(moves_BA4.reshape(-1, 4), anchors_BA4.reshape(-1, 4))
        return torch.as_tensor(flat.view_as(moves_BA4))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """`[B, A, 4 + C]`: corners in pixels, and scores between 0 and 1."""
        said = self.places(images_BCHW)
        return torch.cat([said.boxes_BA4, _scores(said)], dim=-1)

    def found(self, places: Places) -> Tensor:
        """See `signals.BoxReader`."""
        return self.finding(_scores(places), places.boxes_BA4)

    def losses(self, places: Places, labels_BM6: Tensor) -> Mapping[str, Tensor]:
        """Torchvision's losses of each picture, `[B]`."""
        targets = as_targets(labels_BM6, first_class=self.first_class)
        rows = []
        for number, target in enumerate(targets):
            said = {name: each[number : number + 1] for name, each in places.state.items()}
            rows.append(self._losses(said, target))
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _losses(
        self, said: Mapping[str, Tensor], target: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        detector = self._whole[0]
        extra: tuple[object, ...] = ()
        if self.family == "fcos":
            extra = (self.level_sizes,)
        elif self.family == "ssdlite":
            extra = ([self._matched(target["boxes"])],)
        found: Mapping[str, Tensor] = detector.compute_loss([target], said, [self.anchors], *extra)
        return found

    def _matched(self, boxes_G4: Tensor) -> Tensor:
        """`[A]`: the box that each anchor answers for, -1 for none, as SSD does."""
        if not len(boxes_G4):
            return torch.full((len(self.anchors),), -1, device=boxes_G4.device)
        overlaps = need("torchvision.ops", extra="detection").box_iou(boxes_G4, self.anchors)
        return torch.as_tensor(self._whole[0].proposal_matcher(overlaps))


def _scores(places: Places) -> Tensor:
    """`[B, A, C]`, between 0 and 1; of FCOS with how central the place is."""
    if places.exclusive:
        return places.scores_BAC.softmax(-1)[..., :-1]
    scores_BAC = places.scores_BAC.sigmoid()
    if "bbox_ctrness" in places.state:
        return (scores_BAC * places.state["bbox_ctrness"].sigmoid()).sqrt()
    return scores_BAC
