"""Detection: boxes around things, each with a class and a score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from potstill.errors import ModelError, need
from potstill.features.taps import tapped
from potstill.losses import DetectionLoss, Objective, weighted
from potstill.protocols import Task
from potstill.signals import Batch, Places, Signals, Target

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

MOST_NAMED = 20
COLUMNS = 6
"""Of a detection: corners x1, y1, x2, y2 in pixels, score, class (-1: none)."""


@runtime_checkable
class Detector(Protocol):
    """What a model needs for this task; see `potstill.models.detection` for some."""

    def places(self, images_BCHW: Tensor) -> Places:
        """What it says at each of its places."""
        ...


@final
class Detection(Task):
    """Boxes with classes. Model: a `Detector`; labels `[B, M, 6]` (see `potstill.signals.Batch`).

    Models are selected and judged by COCO's mean average precision over overlaps of 0.50 to 0.95.

    Args:
        classes: their names, for an average precision each (`ap_` and the name), up to 20.
    """

    kind = "boxes"
    name = "detection"
    primary = "map"
    higher_is_better = True

    def __init__(self, classes: Sequence[str] = ()) -> None:
        self.classes = tuple(classes)

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Places, and no logits.

        Raises:
            ModelError: the model has no places.
        """
        if not isinstance(model, Detector):
            raise ModelError(
                f"A {type(model).__name__} does not say what is where; for `task: detection` give "
                "a model with `places`, such as the builtin `gfl` or a detector of torchvision."
            )
        if not layers:
            return Signals(places=model.places(batch.inputs))
        with tapped(model, layers) as features:
            places = model.places(batch.inputs)
        return Signals(places=places, features=features)

    def target(self, batch: Batch) -> Target:
        """One row a picture."""
        return Target(num_rows=len(batch), labels=batch.labels, labelled=batch.labelled)

    def digest(self, signals: Signals, target: Target) -> Tensor:
        """`[B, 6 * K]`: what is found in each picture, row after row."""
        assert signals.places is not None, "this task's forward gives places"
        return signals.places.found().detach().float().flatten(1)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        """`[B, K, 6]` detections."""
        return outputs_NC.view(len(outputs_NC), -1, COLUMNS)

    def metrics(self, num_outputs: int) -> "MetricCollection":
        """Mean average precision: over overlaps (map), at 0.50 (map_50) and at 0.75 (map_75).

        With the classes' names also `ap_<name>` of each, over overlaps.
        """
        from torchmetrics import MetricCollection

        named = self.classes if 1 < len(self.classes) <= MOST_NAMED else ()
        return MetricCollection({"boxes": BoxPrecision(named)}, compute_groups=False)

    def default_objective(self) -> Objective:
        """The detector's own losses against the boxes of the data."""
        return weighted(DetectionLoss())


@final
class BoxPrecision(Metric):
    """`torchmetrics.detection.MeanAveragePrecision` (on pycocotools) of padded detections.

    Args:
        classes: names, for a figure each.
    """

    full_state_update = False
    found: list[Tensor]
    truth: list[Tensor]

    def __init__(self, classes: Sequence[str] = ()) -> None:
        super().__init__()
        self._classes = tuple(classes)
        need("pycocotools", extra="detection")
        self.add_state("found", default=[], dist_reduce_fx="cat")
        self.add_state("truth", default=[], dist_reduce_fx="cat")

    def update(self, found_NK6: Tensor, labels_NM6: Tensor) -> None:
        """Keep some pictures."""
        self.found.append(found_NK6)
        self.truth.append(labels_NM6)

    def compute(self) -> dict[str, Tensor]:
        """The figures, of the best 100 detections a picture; 0 where there is no box at all."""
        from torchmetrics.detection import MeanAveragePrecision

        found, truth = torch.cat(self.found), torch.cat(self.truth)
        metric = MeanAveragePrecision(class_metrics=bool(self._classes))
        metric.warn_on_many_detections = False
        metric.update([_prediction(each) for each in found], [_truth(each) for each in truth])
        values = metric.compute()
        found_by = {name: values[name].float().clamp(min=0) for name in ("map", "map_50", "map_75")}
        if not self._classes:
            return found_by
        numbers = values["classes"].reshape(-1).tolist()
        each = dict(zip(numbers, values["map_per_class"].reshape(-1), strict=True))
        nothing = torch.tensor(0.0)  # a class without a box in these pictures: -1 in pycocotools
        for number, name in enumerate(self._classes):
            found_by[f"ap_{name}"] = torch.as_tensor(each.get(number, nothing)).float().clamp(min=0)
        return found_by


def _prediction(found_K6: Tensor) -> dict[str, Tensor]:
    kept = found_K6[found_K6[:, 5] >= 0]
    return {"boxes": kept[:, :4], "scores": kept[:, 4], "labels": kept[:, 5].long()}


def _truth(labels_M6: Tensor) -> dict[str, Tensor]:
    kept = labels_M6[labels_M6[:, 0] >= 0]
    return {"boxes": kept[:, 1:5], "labels": kept[:, 0].long(), "iscrowd": kept[:, 5].long()}
