"""Exit branches: from a layer in the middle of a model to class scores.

Shapes: B samples, C classes.
"""

from typing import final

from torch import Tensor, nn

from potstill.features.layout import Layout, features_first, layout_of
from potstill.features.mapped import conv, norm
from potstill.functional.reductions import upcast

_LAST_SIDE = 4  # positions a side that a branch of convolutions comes down to
_HEADS = 4


@final
class Exit(nn.Module):
    """A branch to C logits, of the kind of layers that its feature comes from.

    Maps and signals go through separable convolutions that halve the grid until it is 4 a side,
    then through a 1×1 convolution; tokens through a transformer block; vectors through a hidden
    layer. Then the mean over positions and a linear layer.

    Args:
        feature: for one batch; only its shape matters.
        width: features before the last layer.
        classes: C.
        layout: how to read the feature; by default from its number of axes.
    """

    def __init__(
        self, feature: Tensor, *, width: int, classes: int, layout: Layout | str | None
    ) -> None:
        super().__init__()
        self.layout = layout_of(feature.shape, given=layout)
        first = features_first(feature, self.layout)
        rank = first.ndim - 2
        if self.layout is Layout.TOKENS:
            self.body: nn.Module = _block(int(first.shape[1]))
            width = int(first.shape[1])
        else:
            self.body = _halving(rank, int(first.shape[1]), width, min(first.shape[2:], default=1))
        self.head = nn.Linear(width, classes)
        self._described = f"{self.layout} {list(feature.shape[1:])} → {classes} classes"

    def forward(self, feature: Tensor) -> Tensor:
        """`[B, C]` logits."""
        feature = upcast(feature)
        if self.layout is Layout.TOKENS:
            return self.head(self.body(feature).mean(dim=1))  # type: ignore[no-any-return]
        out = self.body(features_first(feature, self.layout))
        return self.head(out.flatten(2).mean(dim=2) if out.ndim > 2 else out)  # type: ignore[no-any-return]

    def describe(self) -> str:
        """One line."""
        return self._described


@final
class Exits(nn.ModuleList):
    """Several branches, with one line about all of them."""

    def describe(self) -> str:
        """One line."""
        return "; ".join(each.describe() for each in self if isinstance(each, Exit))


def _halving(rank: int, num_in: int, width: int, side: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    while rank and side > _LAST_SIDE:
        layers.append(_separable(rank, num_in, 2 * num_in))
        num_in, side = 2 * num_in, (side + 1) // 2
    return nn.Sequential(
        *layers, conv(rank, num_in, width, bias=False), norm(rank, width), nn.ReLU()
    )


def _separable(rank: int, num_in: int, num_out: int) -> nn.Sequential:
    """3×3 by channel with stride 2, then 1×1."""
    kind = nn.Conv2d if rank == 2 else nn.Conv1d
    return nn.Sequential(
        kind(num_in, num_in, 3, stride=2, padding=1, groups=num_in, bias=False),
        conv(rank, num_in, num_out, bias=False),
        norm(rank, num_out),
        nn.ReLU(),
    )


def _block(width: int) -> nn.Module:
    heads = next(heads for heads in (_HEADS, 2, 1) if width % heads == 0)
    return nn.TransformerEncoderLayer(
        width,
        heads,
        4 * width,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
