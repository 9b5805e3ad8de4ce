"""The losses of generalised focal loss.

Paper: Li et al. 2020, arXiv:2006.04388. B pictures, A places, M boxes, C classes, R bins, P places
with a box in all pictures.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import need
from potstill.models.detection.grid import assign, sides
from potstill.signals import Places

QUALITY_POWER = 2.0  # β of equation 6
BOX_WEIGHT, BIN_WEIGHT = 2.0, 0.25  # section 4
_EDGE = 1e-3  # bins: distances stay below the last one


def gfl_losses(
    places: Places, labels_BM6: Tensor, centres_A2: Tensor, strides_A: Tensor
) -> Mapping[str, Tensor]:
    """`quality`, `box` and `bins` of each picture, `[B]`.

    As in the paper, but for the divisor: quality is divided by the number of the picture's places
    with a box (there: of the batch's), box and bins by the sum of their weights in the picture.
    """
    assert places.bins_BA4R is not None
    scores_BAC, boxes_BA4 = places.scores_BAC.float(), places.boxes_BA4.float()
    there_BM = labels_BM6[..., 0] >= 0
    learnt_BM = there_BM & (labels_BM6[..., 5] < 0.5)
    corners_BM4 = labels_BM6[..., 1:5]
    mine_BA = assign(centres_A2, strides_A, corners_BM4, learnt_BM)
    picture_P, place_P = (mine_BA >= 0).nonzero(as_tuple=True)
    box_P = mine_BA[picture_P, place_P]
    truth_P4, class_P = corners_BM4[picture_P, box_P], labels_BM6[picture_P, box_P, 0].long()
    said_P4 = boxes_BA4[picture_P, place_P]

    wanted_BAC = torch.zeros_like(scores_BAC)
    wanted_BAC[picture_P, place_P, class_P] = overlaps(said_P4.detach(), truth_P4)
    quality_BA = quality_focal(scores_BAC, wanted_BAC).sum(-1)
    counted_BA = (mine_BA >= 0) | ~_ignored(centres_A2, corners_BM4, there_BM & ~learnt_BM)
    count_B = (mine_BA >= 0).sum(dim=1).clamp(min=1)

    weight_P = scores_BAC.detach().sigmoid().amax(dim=-1)[picture_P, place_P]
    wanted_P4 = sides(centres_A2[place_P], truth_P4) / strides_A[place_P, None]
    last = places.bins_BA4R.shape[-1] - 1
    bins_P = distribution_focal(
        places.bins_BA4R.float()[picture_P, place_P], wanted_P4.clamp(0, last - _EDGE)
    )

    def by_picture(values_P: Tensor) -> Tensor:
        return scores_BAC.new_zeros(len(scores_BAC)).index_add(0, picture_P, values_P)

    total_B = by_picture(weight_P).clamp(min=1e-6)
    return {
        "quality": torch.where(counted_BA, quality_BA, 0).sum(dim=1) / count_B,
        "box": BOX_WEIGHT * by_picture(overlap_loss(said_P4, truth_P4) * weight_P) / total_B,
        "bins": BIN_WEIGHT * by_picture(bins_P * weight_P) / total_B,
    }


def quality_focal(scores: Tensor, wanted: Tensor) -> Tensor:
    """Equation 6: cross entropy to a quality between 0 and 1, times |quality - score|^β."""
    entropy = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    return entropy * (wanted - scores.sigmoid()).abs().pow(QUALITY_POWER)


def distribution_focal(bins_P4R: Tensor, wanted_P4: Tensor) -> Tensor:
    """`[P]`, equation 7: cross entropy to the two bins beside the distance, mean over sides."""
    below = wanted_P4.floor().long()
    share = wanted_P4 - below
    rows = bins_P4R.flatten(0, 1)
    low = F.cross_entropy(rows, below.flatten(), reduction="none")
    high = F.cross_entropy(rows, below.flatten() + 1, reduction="none")
    return (low.view_as(share) * (1 - share) + high.view_as(share) * share).mean(dim=1)


def overlap_loss(boxes_P4: Tensor, truth_P4: Tensor) -> Tensor:
    """`[P]`: 1 - GIoU (Rezatofighi et al. 2019, arXiv:1902.09630)."""
    ops = need("torchvision.ops", extra="detection")
    return torch.as_tensor(ops.generalized_box_iou_loss(boxes_P4, truth_P4, reduction="none"))


def overlaps(boxes_P4: Tensor, truth_P4: Tensor) -> Tensor:
    """`[P]`: intersection over union of pairs."""
    low = torch.maximum(boxes_P4[:, :2], truth_P4[:, :2])
    high = torch.minimum(boxes_P4[:, 2:], truth_P4[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1) for b in (boxes_P4, truth_P4)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)


def _ignored(centres_A2: Tensor, corners_BM4: Tensor, ignored_BM: Tensor) -> Tensor:
    """`[B, A]`: places within boxes that are to be ignored."""
    within_BAM = sides(centres_A2[:, None], corners_BM4[:, None]).amin(-1) > 0
    return (within_BAM & ignored_BM[:, None]).any(dim=-1)
