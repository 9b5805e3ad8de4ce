"""A small anchor-free detector: residual stages, a feature pyramid, a head of quality and bins.

The heads are those of generalised focal loss (Li et al. 2020, arXiv:2006.04388): each class score
is the quality of its box, and each side's distance is a distribution over bins. Boxes are assigned
as in FCOS (`grid`). B samples, A places, C classes, R bins, M boxes.
"""

import math
from collections.abc import Mapping
from typing import Final, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.detection.finding import Finding
from potstill.models.detection.gfl_losses import gfl_losses
from potstill.models.detection.grid import Grid, corners_of
from potstill.models.initial import check_image, check_positive
from potstill.signals import Places

_FINEST: Final = (4, 8)
_LEVELS: Final = 3
_PRIOR = 0.01  # the share of places that show something, at the start (Lin et al. 2017)


def _conv(channels: int, out: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out)]


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(channels, out, stride=stride), nn.ReLU(), *_conv(out, out))
        changed = stride != 1 or channels != out
        self.shortcut = nn.Sequential(
            *(_conv(channels, out, kernel=1, stride=stride) if changed else [])
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.relu(self.body(x_BCHW) + self.shortcut(x_BCHW))


class _Backbone(nn.Module):
    """`stem`, `layer1`, `layer2`, … with strides 2, 4, 8, …; its maps are those of the last three.

    Args:
        channels: of the images.
        width: of the first stage; each further one has twice as many channels.
        depth: blocks a stage.
        stages: how many.
    """

    def __init__(self, channels: int, width: int, depth: int, stages: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(channels, width, stride=2), nn.ReLU())
        widths = [width * 2**number for number in range(stages)]
        self.stages = stages
        for number, (before, out) in enumerate(zip([width, *widths], widths, strict=False), 1):
            blocks = [
                _Residual(before if i == 0 else out, out, stride=2 if i == 0 else 1)
                for i in range(depth)
            ]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.widths = tuple(widths[-_LEVELS:])

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """The maps of the last three stages, finest first."""
        x_BCHW = self.stem(x_BCHW)
        maps = []
        for number in range(1, self.stages + 1):
            x_BCHW = self.get_submodule(f"layer{number}")(x_BCHW)
            maps.append(x_BCHW)
        return maps[-_LEVELS:]


class _Neck(nn.Module):
    """A feature pyramid (Lin et al. 2017, arXiv:1612.03144): its maps are `p3`, `p4`, `p5`.

    Their numbers are the powers of two of their strides; `first` is the finest one's.
    """

    def __init__(self, widths: tuple[int, ...], channels: int, first: int) -> None:
        super().__init__()
        self.first = first
        self.lateral = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in widths])
        for number in range(len(widths)):
            self.add_module(
                f"p{number + first}", nn.Sequential(*_conv(channels, channels), nn.ReLU())
            )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        inner = [conv(each) for conv, each in zip(self.lateral, maps, strict=True)]
        for level in range(len(inner) - 2, -1, -1):
            size = list(inner[level].shape[2:])
            inner[level] = inner[level] + F.interpolate(inner[level + 1], size=size)
        return [self.get_submodule(f"p{n + self.first}")(each) for n, each in enumerate(inner)]


class _Head(nn.Module):
    """Scores and bins at every place, the same weights on all levels."""

    def __init__(self, channels: int, classes: int, *, bins: int, convs: int) -> None:
        super().__init__()
        groups = math.gcd(channels, 8)

        def tower() -> nn.Sequential:
            layers: list[nn.Module] = []
            for _ in range(convs):
                conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
                layers += [conv, nn.GroupNorm(groups, channels), nn.ReLU()]
            return nn.Sequential(*layers)

        self.score_tower, self.box_tower = tower(), tower()
        self.score = nn.Conv2d(channels, classes, 3, padding=1)
        self.box = nn.Conv2d(channels, 4 * bins, 3, padding=1)
        for layer in (self.score, self.box):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.score.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """`[B, A, C]` and `[B, A, 4 * R]`."""
        scores = [self.score(self.score_tower(each)) for each in maps]
        bins = [self.box(self.box_tower(each)) for each in maps]
        return _by_place(scores), _by_place(bins)


def _by_place(maps: list[Tensor]) -> Tensor:
    return torch.cat([each.flatten(2).transpose(1, 2) for each in maps], dim=1)


@final
class GFL(nn.Module):
    """See `gfl`."""

    centres: Tensor
    strides: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        classes: int,
        *,
        width: int,
        depth: int,
        neck: int,
        convs: int,
        bins: int,
        finest: int,
        finding: Finding,
    ) -> None:
        super().__init__()
        first = int(math.log2(finest))
        self.backbone = _Backbone(input_shape[0], width, depth, stages=first + 1)
        self.neck = _Neck(self.backbone.widths, neck, first)
        self.head = _Head(neck, classes, bins=bins, convs=convs)
        self.bins, self.finding = bins, finding
        strides = tuple(finest * 2**level for level in range(_LEVELS))
        grid = Grid.of((input_shape[1], input_shape[2]), strides)
        self.grid = f"{grid}, {bins} bins"
        self.register_buffer("centres", grid.centres_A2, persistent=False)
        self.register_buffer("strides", grid.strides_A, persistent=False)
        self.register_buffer("units", torch.arange(bins).float(), persistent=False)

    def places(self, images_BCHW: Tensor) -> Places:
        """What the heads say."""
        scores_BAC, bins = self.head(self.neck(self.backbone(images_BCHW)))
        bins_BA4R = bins.unflatten(-1, (4, self.bins))
        return Places(
            scores_BAC=scores_BAC,
            boxes_BA4=self._boxes(bins_BA4R),
            bins_BA4R=bins_BA4R,
            reader=self,
            grid=self.grid,
        )

    def _boxes(self, bins_BA4R: Tensor) -> Tensor:
        units = self.get_buffer("units")
        distances_BA4 = bins_BA4R.float().softmax(-1) @ units * self.strides[:, None]
        return corners_of(self.centres, distances_BA4)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """`[B, A, 4 + C]`: corners in pixels, and the quality of each class, between 0 and 1."""
        said = self.places(images_BCHW)
        return torch.cat([said.boxes_BA4, said.scores_BAC.sigmoid()], dim=-1)

    def found(self, places: Places) -> Tensor:
        """See `signals.BoxReader`."""
        return self.finding(places.scores_BAC.sigmoid(), places.boxes_BA4)

    def losses(self, places: Places, labels_BM6: Tensor) -> Mapping[str, Tensor]:
        """Quality, box and bins, `[B]` each; every picture is divided by its own places."""
        return gfl_losses(places, labels_BM6, self.centres, self.strides)


def gfl(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    width: int = 16,
    depth: int = 1,
    neck: int = 32,
    convs: int = 1,
    bins: int = 8,
    finest: int = 8,
    keep: int = 100,
    threshold: float = 0.05,
    overlap: float = 0.6,
) -> GFL:
    """`backbone`, `neck` (its maps: `neck.p3`, `neck.p4`, `neck.p5`) and `head`.

    With `finest=4` the maps are `neck.p2`, `neck.p3`, `neck.p4`, and there is one stage less.

    Args:
        input_shape: `(channels, height, width)`.
        num_outputs: classes.
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        depth: residual blocks a stage.
        neck: channels of the pyramid and the head.
        convs: convolutions in each of the head's two towers.
        bins: R; distances reach R - 1 strides of each level.
        finest: stride of the finest level, 8, or 4 for things of less than 16 pixels; the other two
            have twice and four times as much.
        keep: detections a picture, at most.
        threshold: least score of a detection.
        overlap: of two boxes of a class that share more than this, one is dropped.

    Raises:
        ModelError: no image, too few pixels, or a size below 1.
    """
    check_image(input_shape, smallest=32, model="gfl")
    for name, value in (("width", width), ("depth", depth), ("neck", neck), ("convs", convs)):
        check_positive(name, value)
    if bins < 3:
        raise ModelError(f"`bins: {bins}` is too few for a distance; give 3 or more.")
    if finest not in _FINEST:
        raise ModelError(f"`finest: {finest}` must be 4 or 8, the stride of the finest level.")
    finding = Finding(
        size=(input_shape[1], input_shape[2]), keep=keep, threshold=threshold, overlap=overlap
    )
    return GFL(
        input_shape,
        num_outputs,
        width=width,
        depth=depth,
        neck=neck,
        convs=convs,
        bins=bins,
        finest=finest,
        finding=finding,
    )
