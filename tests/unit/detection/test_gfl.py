"""The builtin detector: its losses from the papers' formulas, its places, what it finds."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from potstill.errors import ModelError
from potstill.measure.size import num_parameters
from potstill.models.detection.finding import Finding
from potstill.tasks import Detection
from potstill.train import TrainSettings

from .scenes import detector, labels, some_batch


def scales(stride: int) -> tuple[float, float]:
    """Of the furthest sides that a level answers for."""
    return {8: (0, 32), 16: (32, 64), 32: (64, math.inf)}[stride]


def owner(x: float, y: float, stride: int, boxes: list[list[float]]) -> int:
    """FCOS with centre sampling, for one place."""
    fitting = []
    for number, (_, x1, y1, x2, y2, *_rest) in enumerate(boxes):
        sides = (x - x1, y - y1, x2 - x, y2 - y)
        near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < 1.5 * stride
        low, high = scales(stride)
        if min(sides) > 0 and near and low < max(sides) <= high:
            fitting.append(((x2 - x1) * (y2 - y1), number))
    return min(fitting)[1] if fitting else -1


def by_loops(scores: Tensor, boxes: Tensor, bins: Tensor, centres, strides, truth) -> list[float]:
    """Equations 6 and 7 and GIoU, of one picture, place by place."""
    quality = box = distribution = weights = 0.0
    positives = 0
    for a, ((x, y), stride) in enumerate(zip(centres.tolist(), strides.tolist(), strict=True)):
        mine = owner(x, y, int(stride), truth)
        p = scores[a].sigmoid()
        wanted = torch.zeros_like(p)
        if mine >= 0:
            positives += 1
            kind, *corners = truth[mine][:5]
            corners = torch.tensor([corners])
            wanted[int(kind)] = box_iou(boxes[a][None], corners)[0, 0]
            weight = float(p.max())
            weights += weight
            box += weight * (1 - generalized_box_iou(boxes[a][None], corners)[0, 0].item())
            each = 0.0
            for e, side in enumerate((x - corners[0, 0], y - corners[0, 1],
                                      corners[0, 2] - x, corners[0, 3] - y)):  # fmt: skip
                d = min(float(side) / stride, bins.shape[-1] - 1 - 1e-3)
                logs, low = bins[a, e].log_softmax(0), int(d)
                each -= float(logs[low]) * (low + 1 - d) + float(logs[low + 1]) * (d - low)
            distribution += weight * each / 4
        for c in range(len(p)):
            q, s = float(wanted[c]), float(p[c])
            quality -= abs(q - s) ** 2 * (q * math.log(s) + (1 - q) * math.log(1 - s))
    weights = max(weights, 1e-6)
    return [quality / max(positives, 1), 2 * box / weights, 0.25 * distribution / weights]


def test_the_losses_are_those_of_the_papers() -> None:
    model, batch = detector(width=4, neck=8).eval(), some_batch()
    torch.manual_seed(0)
    said = model.places(batch.inputs)
    said = replace(said, scores_BAC=torch.randn_like(said.scores_BAC))
    truth = [[[0, 5, 5, 30, 40], [1, 20, 10, 60, 50]], [[1, 40, 4, 80, 44]], []]

    found = said.losses(batch.labels)

    for b in range(3):
        expected = by_loops(
            said.scores_BAC[b].detach(), said.boxes_BA4[b].detach(), said.bins_BA4R[b].detach(),
            model.centres, model.strides, truth[b],
        )  # fmt: skip
        mine = [found[name][b].item() for name in ("quality", "box", "bins")]
        assert mine == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_places_in_boxes_to_be_ignored_are_no_mistakes() -> None:
    model = detector(width=4, neck=8).eval()
    inputs = torch.randn(1, 3, 64, 96)
    said = model.places(inputs)
    everywhere = labels([[0, 0, 0, 96, 64, 1]])

    found = said.losses(everywhere)

    assert found["quality"].item() == 0
    assert said.losses(labels([]))["quality"].item() > 0


def test_boxes_are_the_mean_of_their_distributions() -> None:
    model = detector(width=4, neck=8).eval()
    said = model.places(torch.randn(1, 3, 64, 96))

    bins = said.bins_BA4R[0, 10].softmax(-1) @ torch.arange(8.0) * model.strides[10]
    x, y = model.centres[10].tolist()
    expected = [x - bins[0].item(), y - bins[1].item(), x + bins[2].item(), y + bins[3].item()]

    assert said.boxes_BA4[0, 10].tolist() == pytest.approx(expected, rel=1e-5)
    output = model(torch.randn(2, 3, 64, 96))
    assert output.shape == (2, len(model.centres), 4 + 2)
    assert len(model.centres) == 8 * 12 + 4 * 6 + 2 * 3


def test_of_overlapping_boxes_of_a_class_the_best_stays() -> None:
    find = Finding(size=(50, 50), keep=3, threshold=0.1, overlap=0.5)
    boxes = torch.tensor([[[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 60, 70.0]]])
    scores = torch.tensor([[[0.9, 0.0], [0.8, 0.7], [0.05, 0.3]]])

    found = find(scores, boxes)

    expected = [[0, 0, 10, 10, 0.9, 0], [1, 0, 11, 10, 0.7, 1], [30, 30, 50, 50, 0.3, 1]]
    torch.testing.assert_close(found[0], torch.tensor(expected))
    nothing = find(scores * 0.01, boxes)[0]
    assert (nothing[:, 5] == -1).all()
    assert (nothing[:, 4] == 0).all()


def test_it_learns_rectangles() -> None:
    from potstill import Distiller

    torch.manual_seed(0)
    model, batch = detector(width=8, neck=16, seed=1), some_batch()
    distiller = Distiller(model, task=Detection(), settings=TrainSettings(lr=3e-3, epochs=1))
    distiller.plan_steps(10_000)

    losses = [float(distiller.step(batch)["loss"]) for _ in range(25)]

    assert losses[-1] < 0.7 * losses[0]


def test_a_finer_grid_has_its_own_levels() -> None:
    model = detector(width=4, neck=8, finest=4)

    assert len(model.centres) == 16 * 24 + 8 * 12 + 4 * 6
    assert [name for name, _ in model.neck.named_children()] == ["lateral", "p2", "p3", "p4"]
    places = model.eval().places(torch.randn(1, 3, 64, 96))
    assert places.grid == "16x24/4 8x12/8 4x6/16, 8 bins"


def test_the_drones_detector_is_small() -> None:
    assert num_parameters(detector(width=8, neck=24, size=(96, 128))) < 150_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bins": 2}, "`bins: 2` is too few"),
        ({"finest": 6}, "`finest: 6` must be 4 or 8"),
        ({"width": 0}, "`width` is 0"),
        ({"keep": 0}, "`keep: 0` must be 1 or more"),
        ({"wdth": 3}, "no option `wdth`"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        detector(**options)


def test_names_and_inputs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ModelError, match="no builtin detector `gfk`"):
        detector("gfk")
    with pytest.raises(ModelError, match="at least 32x32 pixels"):
        detector(size=(16, 16))
    with pytest.raises(ModelError, match="source `timm`"):
        detector("x", source="timm")
