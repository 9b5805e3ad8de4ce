"""Heads that change each logit after the linear layer: by a scale, a soft cap, or both.

y = cap · tanh(scale · z / cap), or scale · z without a cap, with z = h Wᵀ + b. Gemma 2 caps
(arXiv:2408.00118, section 2), Cohere and Granite scale.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn


@final
@dataclass(frozen=True, slots=True)
class Shape:
    """What is done to each logit.

    Args:
        scale: factor of the linear layer's output.
        cap: bound of the absolute value, approached softly; `None` for none. Above 0.
    """

    scale: float = 1.0
    cap: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it changes nothing."""
        return self.scale == 1 and self.cap is None

    def __call__(self, linear: Tensor) -> Tensor:
        """The logits of what the linear layer gives."""
        if self.cap is None:
            return linear * self.scale
        return self.cap * torch.tanh(linear * (self.scale / self.cap))

    def apply_(self, linear: Tensor) -> Tensor:
        """The same, written over the argument."""
        if self.cap is None:
            return linear.mul_(self.scale)
        return linear.mul_(self.scale / self.cap).tanh_().mul_(self.cap)

    def pull_back_(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient by the linear layer's output, written over that by the logits.

        dy / dz = scale · (1 - (y / cap)²), of the logits y alone.
        """
        if self.cap is not None:
            gradient.mul_(1 - (logits / self.cap).square())
        return gradient.mul_(self.scale)


PLAIN = Shape()
"""Nothing is done to the logits."""


@final
class ShapedLinear(nn.Linear):
    """A linear layer and what is done to its output; weight and bias are those of the given one.

    Args:
        linear: whose parameters are shared, not copied.
        shape: see `Shape`.
    """

    def __init__(self, linear: nn.Linear, shape: Shape) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias, self.shape = linear.weight, linear.bias, shape

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  as in torch
        """Logits, `[..., out_features]`."""
        return self.shape(super().forward(input))


def shape_of(head: nn.Module) -> Shape | None:
    """What a head does after its weight and bias; `None` if that is not known."""
    if isinstance(head, ShapedLinear):
        return head.shape
    plain = isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward
    return PLAIN if plain else None
