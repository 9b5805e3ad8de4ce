"""From raw values (pixels, table cells, signal amplitudes) to what a model is given."""

import hashlib
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor, nn


@final
@dataclass(frozen=True, eq=False)
class Normalise:
    """`(raw / scale - mean) / std` in float32; without `mean` and `std`, `raw / scale` alone.

    Args:
        mean: broadcasts over one sample: `[C, 1, 1]` (images), `[C, 1]` (signals), `[F]` (tables).
        std: as `mean`; all positive.
        scale: what raw values are divided by first: 255 for images, 32768 for sounds, else 1.
        tokens: raw values are numbers of tokens: they stay whole (int64) and nothing else is done.
        masked: of sounds of unequal length, the second plane says where sound stands and stays.
    """

    mean: Tensor | None = None
    std: Tensor | None = None
    scale: float = 1.0
    tokens: bool = False
    masked: bool = False

    @property
    def is_padded(self) -> bool:
        """Whether samples are planes that end in padding, of which the second says where."""
        return self.tokens or self.masked

    def __call__(self, raw: Tensor) -> Tensor:
        """`[N, ...]` raw, any dtype → `[N, ...]` float32. Equivalent to `standard(unit(raw))`."""
        return self.standard(self.unit(raw))

    def unit(self, raw: Tensor) -> Tensor:
        """The first half, `raw / scale`: images in [0, 1], where augmentation works."""
        if self.tokens:
            return raw.long()
        values = raw.float()
        if self.masked:
            return torch.cat([values[:, :1] / self.scale, values[:, 1:]], dim=1)
        return values if self.scale == 1.0 else values / self.scale

    def standard(self, unit: Tensor) -> Tensor:
        """The second half, `(unit - mean) / std`."""
        if self.mean is None or self.std is None:
            return unit
        return (unit - self.mean) / self.std

    def inverse(self, inputs: Tensor) -> Tensor:
        """Back to raw units: `(inputs * std + mean) * scale`."""
        if self.masked:
            return torch.cat([inputs[:, :1] * self.scale, inputs[:, 1:]], dim=1)
        unit = inputs if self.mean is None or self.std is None else inputs * self.std + self.mean
        return unit if self.scale == 1.0 else unit * self.scale

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        if self.mean is None or self.std is None:
            return self
        return type(self)(self.mean.to(device), self.std.to(device), self.scale)

    def digest(self) -> str:
        """Hex digest of the constants."""
        constants = [None if t is None else t.tolist() for t in (self.mean, self.std)]
        told = (*constants, self.scale, *(("tokens",) if self.tokens else ()))
        told = (*told, *(("masked",) if self.masked else ()))
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def as_module(self) -> nn.Module:
        """The same as a module with buffers, to stand before an exported model."""
        return _NormaliseModule(self)


@final
class _NormaliseModule(nn.Module):
    """`Normalise` whose constants travel in the state dict and in the exported graph."""

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, normalise: Normalise) -> None:
        super().__init__()
        self.scale, self.tokens = normalise.scale, normalise.tokens
        self.masked = normalise.masked
        for name, value in (("mean", normalise.mean), ("std", normalise.std)):
            self.register_buffer(name, None if value is None else value.clone())

    def forward(self, raw: Tensor) -> Tensor:
        return Normalise(self.mean, self.std, self.scale, self.tokens, self.masked)(raw)


def fit_images(images_NCHW: Tensor) -> Normalise:
    """Mean and std of each channel over all pixels of uint8 images, in the [0, 1] scale."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts_CL = torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in images_NCHW.unbind(1)]
    ).double()
    counts_CL /= counts_CL.sum(dim=1, keepdim=True)
    mean_C = counts_CL @ levels
    variance_C = counts_CL @ levels.square() - mean_C.square()
    return _normalise(mean_C, variance_C, shape=(-1, 1, 1), scale=255.0)


def fit_signals(signals_NCL: Tensor) -> Normalise:
    """Mean and std of each channel over all samples and times."""
    values = signals_NCL.double()
    return _normalise(
        values.mean(dim=(0, 2)), values.var(dim=(0, 2), correction=0), shape=(-1, 1), scale=1.0
    )


def fit_tables(table_NF: Tensor) -> Normalise:
    """Mean and std of each column."""
    values = table_NF.double()
    return _normalise(values.mean(dim=0), values.var(dim=0, correction=0), shape=(-1,), scale=1.0)


def _normalise(
    mean: Tensor, variance: Tensor, *, shape: tuple[int, ...], scale: float
) -> Normalise:
    """Constants in float32; what never varies is only centred (its std counts as 1)."""
    std = variance.clamp(min=0).sqrt()
    constant = std <= 1e-7 * mean.abs().clamp(min=1e-5)
    std = torch.where(constant, torch.ones_like(std), std)
    return Normalise(mean.float().view(shape), std.float().view(shape), scale)
