"""torchvision's and Transformers' detectors: their own losses and detections, on ready images."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList

from potstill.errors import ModelError
from potstill.losses import DetectionLoss
from potstill.signals import Signals
from potstill.tasks import Detection

from .scenes import detector, some_batch

SIZE = (64, 96)
ONE_STAGE = {
    "retinanet": {"backbone": "mobilenet_v3_small", "anchor": 2.0},
    "fcos": {"backbone": "mobilenet_v3_small"},
    "ssdlite": {},
}
_ENCODER = {"hidden_sizes": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "embedding_size": 8}
_DETR = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "num_queries": 7,
    "backbone_config": {"model_type": "resnet", "layer_type": "basic", **_ENCODER,
                        "out_features": ["stage4"]},
}  # fmt: skip
_YOLOS = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "num_detection_tokens": 7, "use_mid_position_embeddings": False,
}  # fmt: skip
QUERIES = {"yolos": _YOLOS, "detr": _DETR, "conditional_detr": _DETR}


def targets(batch):
    return [
        {"boxes": row[row[:, 0] >= 0, 1:5], "labels": row[row[:, 0] >= 0, 0].long()}
        for row in batch.labels
    ]


class AsItIs(nn.Module):
    """In the place of torchvision's resizing and normalising."""

    def forward(self, images, answers=None):
        stacked = torch.stack(list(images))
        return ImageList(stacked, [SIZE] * len(stacked)), answers

    def postprocess(self, answers, *_sizes):
        return answers


@pytest.mark.parametrize("name", ONE_STAGE)
def test_losses_and_detections_are_those_of_torchvision(name: str) -> None:
    model, batch = detector(name, "torchvision", **ONE_STAGE[name]), some_batch(size=SIZE)
    (whole,) = model._whole
    whole.transform = AsItIs()
    answers = targets(batch)
    for answer in answers:
        answer["labels"] = answer["labels"] + model.first_class
    model.eval()  # batch norm by its statistics, in both

    places = model.places(batch.inputs)
    found, losses = places.found(), places.losses(batch.labels)

    whole.training = True
    for number in range(2):  # torchvision wants boxes
        theirs = whole([batch.inputs[number]], [answers[number]])
        assert set(theirs) == set(losses)
        for part, value in theirs.items():
            torch.testing.assert_close(losses[part][number], value, rtol=1e-4, atol=1e-5)
    whole.training = False
    whole.score_thresh, whole.detections_per_img = model.finding.threshold, model.finding.keep
    whole.nms_thresh = model.finding.overlap
    for mine, theirs in zip(found, whole(list(batch.inputs)), strict=True):
        kept = mine[mine[:, 5] >= 0]
        assert len(kept) == len(theirs["scores"])
        torch.testing.assert_close(kept[:, 4], theirs["scores"], rtol=1e-4, atol=1e-5)


def test_faster_rcnn_gives_torchvisions_detections_and_four_losses() -> None:
    model = detector("fasterrcnn", "torchvision", backbone="mobilenet_v3_small", threshold=0.0)
    batch = some_batch(size=SIZE)
    model.eval()

    places = model.places(batch.inputs)
    found, losses = places.found(), places.losses(batch.labels)

    assert {len(each) for each in losses.values()} == {3}
    assert sorted(losses) == [
        "loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg",
    ]  # fmt: skip
    assert not any(module.training for module in model.modules())
    assert found.shape == (3, 100, 6)
    assert set(found[..., 5].unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert places.num_classes == 1  # proposals


@pytest.mark.parametrize("name", QUERIES)
def test_queries_learn_by_the_loss_of_transformers(name: str) -> None:
    model = detector(name, "hf", model_type=name, config=QUERIES[name])
    batch, task = some_batch(size=SIZE), Detection()
    model.eval()

    signals = task.forward(model, batch)
    losses = signals.places.losses(batch.labels)

    height, width = SIZE
    for number, answer in enumerate(targets(batch)[:2]):
        boxes = answer["boxes"] / torch.tensor([width, height, width, height])
        middle = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
        asked = [{"class_labels": answer["labels"], "boxes": middle}]
        theirs = model.model(pixel_values=batch.inputs[number : number + 1], labels=asked).loss
        torch.testing.assert_close(losses["set"][number], theirs, rtol=1e-4, atol=1e-4)
    assert task.digest(signals, task.target(batch)).shape == (3, 600)
    assert model(batch.inputs).shape == (3, 7, 6)


def test_every_weight_of_a_detr_with_random_weights_trains() -> None:
    model = detector("detr", "hf", model_type="detr", config=_DETR).train()
    batch, task = some_batch(size=SIZE), Detection()

    signals = task.forward(model, batch, layers=("model.model.backbone",))
    DetectionLoss()(signals, Signals(), task.target(batch)).total.backward()

    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "source", "options", "said"),
    [
        ("retinanett", "torchvision", {}, "no detector `retinanett` of torchvision"),
        ("fcos", "torchvision", {"backbone": "vgg16"}, "`vgg16` is neither"),
        ("fcos", "torchvision", {"backbone": "resnet17"}, "no backbone `resnet17`"),
        ("x", "hf", {"model_type": "bert"}, "of `model_type` conditional_detr, detr, yolos"),
        ("nowhere", "hf", {}, "There is no folder `nowhere`"),
        ("x", "hf", {"model_type": "yolos", "config": 3}, "a mapping of settings"),
    ],
)
def test_what_is_not_there_is_one_sentence(name: str, source: str, options, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        detector(name, source, **options)
