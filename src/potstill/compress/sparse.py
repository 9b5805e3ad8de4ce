"""Weights that are zero: by magnitude, more and more of them, and kept zero while a teacher helps.

A sparse model computes the same sums over the same tensors: its file is smaller only once it is
zipped, and it is faster only on a runtime with sparse kernels (2:4: NVIDIA GPUs from Ampere on).
"""

import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from potstill.compress.trainable import trainable_copy
from potstill.errors import ModelError, RecipeError

_STAGES = 100  # times at which masks may change
_GROUP, _KEPT = 4, 2


class Pattern(StrEnum):
    """Which weights may be zero."""

    UNSTRUCTURED = "unstructured"  # the smallest of each layer
    TWO_OF_FOUR = "2:4"  # of every four inputs of an output the two smallest


@final
@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """How many weights become zero, and when.

    The share of zeros rises as `share · (1 - (1 - t)³)`, t being the part of the way from `begin`
    to `end` (Zhu & Gupta 2017, arXiv:1710.01878, equation 1). 2:4 (Mishra et al. 2021,
    arXiv:2104.08378) is there at once, at `begin`.

    Args:
        share: of each layer's weights that are zero in the end; 2:4 has half.
        pattern: see `Pattern`.
        begin: share of all steps after which it begins.
        end: share of all steps after which masks stand still.
        skip: layers that stay dense, with all below them.
    """

    share: float = 0.8
    pattern: Pattern = Pattern.UNSTRUCTURED
    begin: float = 0.0
    end: float = 0.5
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", Pattern(self.pattern))
        object.__setattr__(self, "skip", tuple(self.skip))
        if not 0 < self.share < 1:
            raise RecipeError(f"`share` is {self.share!r}; it must be between 0 and 1.")
        if not 0 <= self.begin <= self.end <= 1:
            raise RecipeError(
                f"`begin` is {self.begin!r} and `end` {self.end!r}; both are shares of the steps, "
                "the first no larger than the second."
            )

    def at(self, done: float) -> float:
        """The share of zeros when `done` of all steps are over."""
        if done < self.begin:
            return 0.0
        if self.pattern is Pattern.TWO_OF_FOUR:
            return 1 - _KEPT / _GROUP
        way = min((done - self.begin) / max(self.end - self.begin, 1e-9), 1.0)
        return self.share * (1 - (1 - way) ** 3)


@final
class Mask(nn.Module):
    """Holds the weights of one layer at zero; told by the trainer how far it is (`Staged`).

    A weight that is zero stays so, and gets no gradient.
    """

    mask: Tensor

    def __init__(self, weight: Tensor, how: Sparsity) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self._share, self._due = 0.0, False

    def reach(self, share: float) -> None:
        """Let the next pass settle which weights are zero from now on."""
        wanted = self.how.at(int(share * _STAGES) / _STAGES)
        if wanted != self._share:
            self._share, self._due = wanted, True

    def settle(self, weight: Tensor, share: float) -> None:
        """Choose the weights that are zero now."""
        left = weight.detach().abs() * self.mask
        if self.how.pattern is Pattern.TWO_OF_FOUR:
            self.mask.copy_(_two_of_four(left))
        else:
            self.mask.copy_(_largest(left, share))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its zeros."""
        if self._due:
            self.settle(weight, self._share)
            self._due = False
        return weight * self.mask


def sparsified(model: nn.Module, how: Sparsity | None = None) -> nn.Module:
    """A copy of a model with masks on its linear and convolutional layers.

    It is a student like any other then: `Distiller(sparsified(model), teacher, ...).fit(...)`
    removes the weights step by step and trains the others; layers keep their names.
    `densified` takes the masks off again. With a plain loop of your own call `Mask.reach`.

    Raises:
        ModelError: no layer can be made so.
    """
    how = how or Sparsity()
    model = trainable_copy(model)
    chosen = [layer for name, layer in model.named_modules() if _fits(name, layer, how)]
    if not chosen:
        raise ModelError(
            f"This {type(model).__name__} has no layer whose weights can be made {how.pattern} "
            "sparse; leave sparsity out, or `skip` fewer."
        )
    for layer in chosen:
        weight = layer.weight
        assert isinstance(weight, Tensor), "linear layers and convolutions have one"
        parametrize.register_parametrization(layer, "weight", Mask(weight, how), unsafe=True)
    return model


def zeroed(model: nn.Module) -> nn.Module:
    """Give a `sparsified` model all of its zeros at once, without training, and return it."""
    for layer in model.modules():
        for mask in _masks(layer):
            original = layer.get_parameter("parametrizations.weight.original")
            mask.settle(original, mask.how.at(1.0))
    return model


def densified(model: nn.Module) -> nn.Module:
    """Take the masks off, in place; zeros stay in the weights, and names are the model's again."""
    for layer in list(model.modules()):
        if _masks(layer):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return model


def zeros(model: nn.Module) -> float:
    """The share of zeros among all weights of linear layers and convolutions."""
    weights = [
        layer.weight
        for layer in model.modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    ]
    return sum(int((w == 0).sum()) for w in weights) / max(1, sum(w.numel() for w in weights))


def zipped_bytes(path: Path) -> int:
    """How large a file is in a zip archive (deflate, level 9): where zeros save something."""
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "zipped"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as writer:
            writer.write(path, path.name)
        return archive.stat().st_size


def _masks(layer: nn.Module) -> list[Mask]:
    if not parametrize.is_parametrized(layer, "weight"):
        return []
    parts = layer.get_submodule("parametrizations.weight").children()
    return [part for part in parts if isinstance(part, Mask)]


def _fits(name: str, layer: nn.Module, how: Sparsity) -> bool:
    if any(name == one or name.startswith(f"{one}.") for one in how.skip):
        return False
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
        return False
    return how.pattern is Pattern.UNSTRUCTURED or layer.weight[0].numel() % _GROUP == 0


def _largest(magnitude: Tensor, share: float) -> Tensor:
    """True for all but the smallest `share`; of equals, the later ones go."""
    flat = magnitude.flatten()
    kept = flat.numel() - round(share * flat.numel())
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.argsort(descending=True, stable=True)[:kept]] = True
    return mask.reshape(magnitude.shape)


def _two_of_four(magnitude: Tensor) -> Tensor:
    groups = magnitude.reshape(-1, _GROUP)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    mask.scatter_(1, groups.argsort(dim=1, descending=True, stable=True)[:, :_KEPT], True)
    return mask.reshape(magnitude.shape)
