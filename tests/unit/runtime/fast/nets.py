"""Tiny networks that the engines are tried on."""

import torch
from torch import Tensor, nn


def conv_net(seed: int = 0) -> nn.Sequential:
    """Two convolutions with batch norm that has seen data; `[B, 3, 8, 8]` to 4 clear classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        )
        with torch.no_grad():
            for _ in range(20):
                model(images(16, seed=7))
            model[-1].weight.mul_(8)
    return model.eval().requires_grad_(False)


def images(rows: int, *, seed: int = 1) -> Tensor:
    """Four kinds of pictures with noise, `[B, 3, 8, 8]`."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = 0.3 * torch.randn(rows, 3, 8, 8, generator=generator)
    return kinds[torch.arange(rows) % 4] + noise


class Cancelling(nn.Module):
    """Adds a large number and takes it away again: only float32 keeps what is between."""

    def __init__(self, inner: nn.Module, large: float = 1e4) -> None:
        super().__init__()
        self.inner, self.large = inner, large

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x + self.large) - self.large)


class Branching(nn.Module):
    """Looks at the values of its input: it can neither be traced nor exported."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x)).flatten(1)
        return y if float(y.sum()) > 1e9 else y * 2
