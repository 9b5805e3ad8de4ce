"""A net with all that int8 meets, prepared once: capturing a graph takes seconds."""

from functools import cache

import torch
from torch import Tensor, nn

from potstill import TensorBatches, TrainSettings
from potstill.compress.fake_quantised import FakeQuantised


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8, eps=1e-2, momentum=0.3)
        self.point = nn.Conv2d(8, 8, 1)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.drop(self.point(torch.relu(self.norm(self.depthwise(x))))))


def small_net() -> nn.Sequential:
    torch.manual_seed(3)
    stem = nn.Conv2d(3, 8, 3, padding=1)
    net = nn.Sequential(
        stem,
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Block(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    with torch.no_grad():  # statistics that are not those of a fresh model
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.05, 0.3)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
    return net


INPUTS = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(5, (96,), generator=torch.Generator().manual_seed(1))
SHORT = TrainSettings(epochs=2, batch_size=32, lr=1e-2)


def batches(*, shuffle: bool = True) -> TensorBatches:
    return TensorBatches(INPUTS, LABELS, batch_size=32, shuffle=shuffle)


@cache
def prepared() -> FakeQuantised:
    """Copy it before use."""
    return FakeQuantised(small_net(), INPUTS)
