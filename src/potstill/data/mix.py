"""Mixing pairs of samples: label-softening augmentation, drawn anew from (seed, epoch, step).

A mixed sample is no longer any one sample, so mixed batches carry neither ids nor views, and a
stored teacher cannot be asked about them by mistake.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import RecipeError
from potstill.signals import Batch


class Moment(NamedTuple):
    """When in a run a batch is drawn; the only source of chance in mixing."""

    seed: int
    epoch: int
    step: int


class Mix(ABC):
    """A way to mix the rows of a batch with each other."""

    @abstractmethod
    def __call__(self, batch: Batch, *, num_classes: int, moment: Moment) -> Batch:
        """The mixed batch.

        Args:
            batch: inputs `[B, ...]`; labels `[B]` int64, `[B, C]` or `[B, O]` float32, or none.
            num_classes: C, to write class numbers as rows of probabilities.
            moment: names the draw.

        Returns:
            Inputs mixed; labels `[B, C]` (or `[B, O]`) float32, mixed in the same shares. Labelled
            rows are mixed with labelled rows only and unlabelled ones with unlabelled ones.
        """


@final
@dataclass(frozen=True)
class Mixup(Mix):
    """`share * x + (1 - share) * x[partner]`, with one share a batch from Beta(alpha, alpha).

    Paper: Zhang et al. 2018, arXiv:1710.09412.

    Args:
        alpha: shape of the Beta distribution; near 0 nearly nothing is mixed, 1 is uniform.
        probability: how often a batch is mixed at all.
    """

    alpha: float = 0.2
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check("mixup", self.alpha, self.probability)

    def __call__(self, batch: Batch, *, num_classes: int, moment: Moment) -> Batch:
        """See `Mix`."""
        rng = _generator(moment)
        share = _share(rng, self.alpha, self.probability)
        partner = _partners(batch, rng)
        inputs = torch.lerp(batch.inputs[partner], batch.inputs, share)
        return _mixed(batch, inputs, partner, share=share, num_classes=num_classes)


@final
@dataclass(frozen=True)
class CutMix(Mix):
    """A box of each image is taken from its partner; labels mix by area. Images only.

    Paper: Yun et al. 2019, arXiv:1905.04899.

    Args:
        alpha: shape of the Beta distribution that the area kept is drawn from.
        probability: how often a batch is mixed at all.
    """

    alpha: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check("cutmix", self.alpha, self.probability)

    def __call__(self, batch: Batch, *, num_classes: int, moment: Moment) -> Batch:
        """See `Mix`."""
        if batch.inputs.ndim != 4:
            raise RecipeError(
                f"`cutmix` is for images [B, C, H, W], and the inputs are of rank "
                f"{batch.inputs.ndim}; use `mixup`."
            )
        rng = _generator(moment)
        share = _share(rng, self.alpha, self.probability)
        partner = _partners(batch, rng)
        top, bottom, left, right = _box(rng, batch.inputs.shape[-2:], share=share)
        inputs = batch.inputs.clone()
        inputs[:, :, top:bottom, left:right] = batch.inputs[partner, :, top:bottom, left:right]
        area = (bottom - top) * (right - left) / inputs[0, 0].numel()
        return _mixed(batch, inputs, partner, share=1 - area, num_classes=num_classes)


def _check(name: str, alpha: float, probability: float) -> None:
    if not alpha > 0:
        raise RecipeError(
            f"`{name}.alpha` must be more than 0, got {alpha}; leave `{name}` out to mix nothing."
        )
    if not 0 <= probability <= 1:
        raise RecipeError(f"`{name}.probability` must lie between 0 and 1, got {probability}.")


def _generator(moment: Moment) -> np.random.Generator:
    return np.random.default_rng(list(moment))


def _share(rng: np.random.Generator, alpha: float, probability: float) -> float:
    """How much of itself each row keeps."""
    mixes = rng.random() < probability
    share = float(rng.beta(alpha, alpha))
    return share if mixes else 1.0


def _partners(batch: Batch, rng: np.random.Generator) -> Tensor:
    """`[B]` int64: whom each row is mixed with, by a turn within the (un)labelled rows.

    Batches are shuffled, so a turn by a random number of places is a random pairing; and it needs
    no copy from the host and no look at the values of `labelled`.
    """
    rows = len(batch)
    places = torch.arange(rows, device=batch.inputs.device)
    turn = int(rng.integers(1, max(rows, 2)))
    if batch.labelled is None:
        return (places + turn) % rows
    order = torch.argsort(batch.labelled.to(torch.uint8), stable=True)
    is_labelled = batch.labelled[order]
    num_without = rows - batch.labelled.sum()
    start = torch.where(is_labelled, num_without, 0)
    size = torch.where(is_labelled, rows - num_without, num_without)
    partner = torch.empty_like(places)
    partner[order] = order[start + (places - start + turn) % size]
    return partner


def _box(
    rng: np.random.Generator, size: tuple[int, ...] | torch.Size, *, share: float
) -> tuple[int, int, int, int]:
    """A box with the image's own proportions and area `1 - share`, cut off at the edges."""
    side = (1 - share) ** 0.5
    edges: list[int] = []
    for length in size:
        centre, half = int(rng.integers(length)), round(length * side) / 2
        edges += [max(int(centre - half), 0), min(int(centre + half), length)]
    top, bottom, left, right = edges
    return top, bottom, left, right


def _mixed(
    batch: Batch, inputs: Tensor, partner: Tensor, *, share: float, num_classes: int
) -> Batch:
    labels, weights = batch.labels, batch.weights
    if weights is not None:
        weights = torch.lerp(weights[partner], weights, share)
    if labels is not None:
        soft = F.one_hot(labels, num_classes).float() if labels.ndim == 1 else labels.float()
        labels = torch.lerp(soft[partner], soft, share)
    return Batch(inputs=inputs, labels=labels, labelled=batch.labelled, weights=weights)
