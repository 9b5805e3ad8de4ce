"""Detectors of torchvision on images that are ready: of one size, normalised.

torchvision's own resizing and normalising is left out; its heads, losses and anchors are used as
they are. B samples, A anchors, C classes.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Final

import torch
from torch import nn

from potstill.errors import ModelError, need
from potstill.models.config import ModelConfig
from potstill.models.detection.finding import Finding
from potstill.models.detection.one_stage import OneStage
from potstill.models.detection.two_stage import TwoStage
from potstill.models.options import nearest, read_options
from potstill.runtime.modes import evaluating

FAMILIES: Final = ("fasterrcnn", "fcos", "retinanet", "ssdlite")
_RATIOS = (0.5, 1.0, 2.0)


def build_torchvision(config: ModelConfig) -> nn.Module:
    """`fasterrcnn`, `retinanet`, `fcos` or `ssdlite` with random weights.

    Raises:
        ModelError: an unknown name, option or backbone, or images that it cannot take.
        MissingExtra: torchvision is not installed.
    """
    builders: Mapping[str, Callable[..., nn.Module]] = {
        "fasterrcnn": _fasterrcnn,
        "fcos": _fcos,
        "retinanet": _retinanet,
        "ssdlite": _ssdlite,
    }
    if config.name not in builders:
        raise ModelError(
            f"There is no detector `{config.name}` of torchvision here: "
            f"{nearest(config.name, builders)}"
        )
    if config.input_shape[0] != 3:
        raise ModelError(f"`{config.name}` of torchvision takes colour images of 3 channels.")
    build = builders[config.name]
    options = read_options(build, config.options, model=config.name)
    return build(config.input_shape, config.num_outputs, **options)


def _detection(part: str) -> ModuleType:
    return need(f"torchvision.models.detection.{part}", extra="detection")


def _backbone(name: str, *, pretrained: bool, extra: nn.Module | None, finest: int) -> nn.Module:
    """A pyramid of 256 channels; of ResNets, its finest level has the stride `finest`."""
    utils, models = _detection("backbone_utils"), need("torchvision.models", extra="detection")
    weights = "DEFAULT" if pretrained else None
    if name not in models.list_models(module=models):
        raise ModelError(
            f"torchvision has no backbone `{name}`: "
            f"{nearest(name, models.list_models(module=models, include=['resnet*', 'mobilenet*']))}"
        )
    if name.startswith("mobilenet"):
        made: nn.Module = utils.mobilenet_backbone(
            backbone_name=name, weights=weights, fpn=True, trainable_layers=6,
            norm_layer=nn.BatchNorm2d,
        )  # fmt: skip
        return made
    if "resne" not in name:
        raise ModelError(f"A pyramid is made of a ResNet or MobileNet; `{name}` is neither.")
    pyramid: nn.Module = utils.resnet_fpn_backbone(
        backbone_name=name,
        weights=weights,
        trainable_layers=5,
        norm_layer=nn.BatchNorm2d,
        returned_layers=[2, 3, 4] if finest == 8 else [1, 2, 3, 4],
        extra_blocks=extra,
    )
    return pyramid


def _strides(backbone: nn.Module, shape: tuple[int, ...]) -> list[int]:
    """Pixels a cell of each level."""
    with evaluating(backbone), torch.no_grad():
        maps = list(backbone(torch.zeros(1, *shape)).values())
    return [round(shape[1] / each.shape[2]) for each in maps]


def _finding(shape: tuple[int, ...], keep: int, threshold: float, overlap: float) -> Finding:
    size = (shape[1], shape[2])
    return Finding(size=size, keep=keep, threshold=threshold, overlap=overlap)


def _retinanet(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    backbone: str = "resnet18",
    pretrained_backbone: bool = False,
    anchor: float = 4.0,
    keep: int = 100,
    threshold: float = 0.05,
    overlap: float = 0.5,
) -> nn.Module:
    """RetinaNet (Lin et al. 2017, arXiv:1708.02002); the smallest anchors have `anchor` strides."""
    blocks = need("torchvision.ops.feature_pyramid_network", extra="detection")
    body = _backbone(
        backbone, pretrained=pretrained_backbone, extra=blocks.LastLevelP6P7(256, 256), finest=8
    )
    strides = _strides(body, input_shape)
    sizes = tuple(tuple(s * anchor * 2 ** (i / 3) for i in range(3)) for s in strides)
    anchors = _detection("anchor_utils").AnchorGenerator(sizes, (_RATIOS,) * len(sizes))
    model = _detection("retinanet").RetinaNet(body, num_outputs, anchor_generator=anchors)
    return OneStage(
        model, input_shape, family="retinanet", anchors=f"{sizes}",
        finding=_finding(input_shape, keep, threshold, overlap),
    )  # fmt: skip


def _fcos(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    backbone: str = "resnet18",
    pretrained_backbone: bool = False,
    keep: int = 100,
    threshold: float = 0.05,
    overlap: float = 0.6,
) -> nn.Module:
    """FCOS (Tian et al. 2019, arXiv:1904.01355)."""
    blocks = need("torchvision.ops.feature_pyramid_network", extra="detection")
    body = _backbone(
        backbone, pretrained=pretrained_backbone, extra=blocks.LastLevelP6P7(256, 256), finest=8
    )
    sizes = tuple((float(stride),) for stride in _strides(body, input_shape))
    anchors = _detection("anchor_utils").AnchorGenerator(sizes, ((1.0,),) * len(sizes))
    model = _detection("fcos").FCOS(body, num_outputs, anchor_generator=anchors)
    return OneStage(
        model, input_shape, family="fcos", anchors=f"{sizes}",
        finding=_finding(input_shape, keep, threshold, overlap),
    )  # fmt: skip


def _ssdlite(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    pretrained_backbone: bool = False,
    keep: int = 100,
    threshold: float = 0.01,
    overlap: float = 0.55,
) -> nn.Module:
    """SSDlite on MobileNetV3 (Sandler et al. 2018, arXiv:1801.04381)."""
    model = _detection("ssdlite").ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone="DEFAULT" if pretrained_backbone else None,
        num_classes=num_outputs + 1,
    )
    return OneStage(
        model, input_shape, family="ssdlite", anchors="default boxes",
        finding=_finding(input_shape, keep, threshold, overlap),
    )  # fmt: skip


def _fasterrcnn(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    backbone: str = "resnet18",
    pretrained_backbone: bool = False,
    anchor: float = 8.0,
    keep: int = 100,
    threshold: float = 0.05,
    overlap: float = 0.5,
) -> nn.Module:
    """Faster R-CNN (Ren et al. 2015, arXiv:1506.01497); anchors have `anchor` strides a side."""
    body = _backbone(backbone, pretrained=pretrained_backbone, extra=None, finest=4)
    sizes = tuple((stride * anchor,) for stride in _strides(body, input_shape))
    anchors = _detection("anchor_utils").AnchorGenerator(sizes, (_RATIOS,) * len(sizes))
    pool = need("torchvision.ops", extra="detection").MultiScaleRoIAlign(
        featmap_names=list("0123"[: len(sizes) - 1]),
        output_size=7,
        sampling_ratio=2,
    )
    model = _detection("faster_rcnn").FasterRCNN(
        body,
        num_outputs + 1,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_score_thresh=threshold,
        box_nms_thresh=overlap,
        box_detections_per_img=keep,
    )
    return TwoStage(model, input_shape, keep=keep, grid=f"fasterrcnn {sizes}")
