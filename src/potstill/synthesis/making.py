"""Images from a teacher alone, in chunks, each a pure function of teacher, seed and number."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import RecipeError
from potstill.runtime.seeds import seeded
from potstill.synthesis.generator import Generator
from potstill.synthesis.statistics import NormStatistics


class Method(StrEnum):
    """How images are made."""

    GENERATOR = "generator"  # a network is trained to make them
    INVERSION = "inversion"  # the pixels themselves are


@final
@dataclass(frozen=True, kw_only=True)
class DataFree:
    """Students learn on images that are made from the teacher, and see no others.

    Args:
        method: see `Method`.
        images: how many are made.
        chunks: in how many independent parts; a run that is stopped goes on with the next one.
        steps: of the optimiser, for each generator or batch of pixels.
        batch_size: images of a step.
        lr: of Adam.
        statistics: weight of the distance to the batch norms' statistics, beside the cross entropy.
        smooth: weight of the total variation of the pixels (inversion alone).
        seed: the only source of chance.
    """

    method: Method = Method.GENERATOR
    images: int = 20_000
    chunks: int = 4
    steps: int = 300
    batch_size: int = 128
    lr: float = 4e-3
    statistics: float = 1.0
    smooth: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("images", "chunks", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise RecipeError(f"`data_free.{name}` is {getattr(self, name)}; give 1 or more.")
        if self.chunks > self.images:
            raise RecipeError(
                f"`data_free.chunks` is {self.chunks} for {self.images} images; give at most one "
                "chunk an image."
            )
        if not self.lr > 0:
            raise RecipeError(f"`data_free.lr` is {self.lr}; give a number above 0.")

    def size(self, chunk: int) -> int:
        """How many images a chunk has."""
        return self.images * (chunk + 1) // self.chunks - self.images * chunk // self.chunks


def make_images(
    model: nn.Module,
    wanted: DataFree,
    *,
    chunk: int,
    shape: tuple[int, ...],
    classes: int,
    standard: Callable[[Tensor], Tensor],
) -> Tensor:
    """One chunk of images, uint8 `[N, C, H, W]`.

    Args:
        model: the teacher, in eval mode and frozen, with batch norms.
        wanted: how.
        chunk: which, from 0.
        shape: `(C, H, W)`.
        classes: of the teacher, which are drawn alike.
        standard: from [0, 1] to what the teacher is given.

    Raises:
        ModelError: the teacher has no batch norm.
        RecipeError: the samples are no images.
    """
    if len(shape) != 3:
        raise RecipeError(
            f"`data_free` makes images, and the samples have shape {shape}; leave it out."
        )
    make = {Method.GENERATOR: _generated, Method.INVERSION: _inverted}[wanted.method]
    device = next(model.parameters()).device
    with seeded(wanted.seed + 1_000_003 * chunk), torch.enable_grad(), NormStatistics(model) as met:
        judge = _Judge(model, met, standard, wanted.statistics)
        images = make(judge, wanted, wanted.size(chunk), shape, classes, device)
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


@final
@dataclass(frozen=True)
class _Judge:
    """What the teacher says about images: are they of their class, and like its data?"""

    model: nn.Module
    met: NormStatistics
    standard: Callable[[Tensor], Tensor]
    weight: float

    def __call__(self, images: Tensor, classes_B: Tensor) -> Tensor:
        logits = self.model(self.standard(images))
        return F.cross_entropy(logits, classes_B) + self.weight * self.met.loss()


def _generated(
    judge: _Judge,
    wanted: DataFree,
    count: int,
    shape: tuple[int, ...],
    classes: int,
    device: torch.device,
) -> Tensor:
    """Images of a generator in training, from a quarter of its steps on: it never stands still."""
    generator = Generator(shape, classes).to(device)
    optimizer = torch.optim.Adam(generator.parameters(), lr=wanted.lr, betas=(0.5, 0.999))
    first = wanted.steps // 4
    each = -(-count // (wanted.steps - first))
    kept: list[Tensor] = []
    for step in range(wanted.steps):
        size = max(wanted.batch_size, each)
        z = torch.randn(size, generator.noise, device=device)
        drawn = torch.randint(classes, (size,), device=device)
        images = generator(z, drawn)
        loss = judge(images, drawn)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step >= first:
            kept.append(images[:each].detach().cpu())
    return torch.cat(kept)[:count]


def _inverted(
    judge: _Judge,
    wanted: DataFree,
    count: int,
    shape: tuple[int, ...],
    classes: int,
    device: torch.device,
) -> Tensor:
    """Batches of pixels that follow the gradient themselves."""
    kept: list[Tensor] = []
    for start in range(0, count, wanted.batch_size):
        size = min(wanted.batch_size, count - start)
        drawn = torch.randint(classes, (wanted.batch_size,), device=device)
        pixels = torch.randn(wanted.batch_size, *shape, device=device).requires_grad_()
        optimizer = torch.optim.Adam([pixels], lr=wanted.lr, betas=(0.5, 0.9))
        for _ in range(wanted.steps):
            images = torch.sigmoid(pixels)
            loss = judge(images, drawn) + wanted.smooth * _variation(images)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        kept.append(torch.sigmoid(pixels).detach()[:size].cpu())
    return torch.cat(kept)


def _variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().mean()
    right = (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().mean()
    return down + right
