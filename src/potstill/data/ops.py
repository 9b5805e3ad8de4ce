"""The catalogue of augmentations: each a batched function of the inputs and a sample's own draws.

B samples · C channels · H, W pixels · L times. Images come as float32 in [0, 1], tables and
signals already standardised. With strength zero each gives back its inputs.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.data.draws import Draws
from potstill.data.options import nearest
from potstill.errors import RecipeError

IMAGES = frozenset({4})
SIGNALS = frozenset({3})
ANY = frozenset({2, 3, 4})


class Op(ABC):
    """One kind of change. Instances are frozen dataclasses whose fields are their strengths."""

    dims: ClassVar[
        frozenset[int]
    ]  # which ranks of input it works on: tables 2, signals 3, images 4

    keeps_boxes: ClassVar[bool] = False  # whether `moved` is right for boxes in images

    def moved(self, corners_BM4: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
        """Where boxes in images of a height and width go, with the draws that move the images."""
        return corners_BM4

    def __call__(self, inputs: Tensor, draws: Draws) -> Tensor:
        """`[B, ...]` float32 → the same shape; row b depends on row b and its draws alone."""
        assert inputs.ndim in self.dims, "Augment.check comes first"
        return self._changed(inputs, draws)

    @abstractmethod
    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        """What `__call__` gives."""


def _require(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise RecipeError(f"Augmentation `{name}` must be {expected}, got {value!r}.")


def _windows(padded: Tensor, top_B: Tensor, left_B: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut one window of `size` out of each image, at its own offset."""
    batch, channels, _, width = padded.shape
    rows = top_B[:, None] + torch.arange(size[0], device=padded.device)
    columns = left_B[:, None] + torch.arange(size[1], device=padded.device)
    index = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, -1)
    flat = padded.flatten(2).gather(2, index.expand(-1, channels, -1))
    return flat.view(batch, channels, *size)


def _sampled(images: Tensor, y_BHW: Tensor, x_BHW: Tensor) -> Tensor:
    """Read images at fractional pixel positions, bilinear, zero outside."""
    height, width = images.shape[2:]
    grid = torch.stack([(2 * x_BHW + 1) / width - 1, (2 * y_BHW + 1) / height - 1], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _pixel_grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column numbers of the pixels, `[H, 1]` and `[1, W]` float32."""
    height, width = images.shape[2:]
    y = torch.arange(height, device=images.device, dtype=torch.float32)
    x = torch.arange(width, device=images.device, dtype=torch.float32)
    return y[:, None], x[None, :]


@final
@dataclass(frozen=True)
class Crop(Op):
    """Pad on all sides, then cut out a window of the old size at a random place.

    Args:
        padding: pixels on each side.
        fill: what the padding holds: `zero` (black) or `reflect`.
    """

    dims = IMAGES
    keeps_boxes = True
    padding: int = 4
    fill: str = "zero"

    def __post_init__(self) -> None:
        _require(self.padding >= 0, "crop.padding", self.padding, "0 or more pixels")
        if self.fill not in ("zero", "reflect"):
            raise RecipeError(
                f"Augmentation `crop.fill: {self.fill}` is unknown; "
                f"{nearest(self.fill, ('zero', 'reflect'))}"
            )

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        p = self.padding
        height, width = inputs.shape[2:]
        padded = F.pad(inputs, (p, p, p, p), mode="constant" if self.fill == "zero" else "reflect")
        top, left = (p - draws.whole(p, 2)).unbind(1)
        return _windows(padded, top, left, (height, width))

    def moved(self, corners_BM4: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
        """As in `Op`."""
        down, right = draws.whole(self.padding, 2).unbind(1)
        return corners_BM4 + torch.stack([right, down, right, down], dim=1)[:, None]


@final
@dataclass(frozen=True)
class Jitter(Op):
    """Move each image by whole pixels, at most `pixels` down or up and right or left; zero fill.

    Equivalent to `Crop(padding=pixels)`.
    """

    dims = IMAGES
    keeps_boxes = True
    pixels: int = 2

    def __post_init__(self) -> None:
        _require(self.pixels >= 0, "jitter.pixels", self.pixels, "0 or more pixels")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        return Crop(padding=self.pixels)(inputs, draws)

    def moved(self, corners_BM4: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
        """As in `Op`."""
        return Crop(padding=self.pixels).moved(corners_BM4, size, draws)


@final
@dataclass(frozen=True)
class Flip(Op):
    """Mirror left and right with a probability."""

    dims = IMAGES
    keeps_boxes = True
    probability: float = 0.5

    def __post_init__(self) -> None:
        p = self.probability
        _require(0 <= p <= 1, "flip.probability", p, "between 0 and 1")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        flipped = draws.uniform() < self.probability
        return torch.where(flipped.view(-1, 1, 1, 1), inputs.flip(-1), inputs)

    def moved(self, corners_BM4: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
        """As in `Op`."""
        x1, y1, x2, y2 = corners_BM4.unbind(-1)
        mirrored = torch.stack([size[1] - x2, y1, size[1] - x1, y2], dim=-1)
        flipped = draws.uniform() < self.probability
        return torch.where(flipped.view(-1, 1, 1), mirrored, corners_BM4)


@final
@dataclass(frozen=True)
class Affine(Op):
    """Rotate, shear, scale and move about the centre, in one bilinear reading; zero outside.

    Args:
        degrees: largest rotation either way.
        translate: largest move in pixels along each side.
        scale: largest relative change of size; 0.1 gives 0.9 … 1.1.
        shear: largest horizontal shear in degrees.
    """

    dims = IMAGES
    keeps_boxes = True
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0

    def __post_init__(self) -> None:
        _require(0 <= self.degrees <= 180, "degrees", self.degrees, "between 0 and 180")
        _require(self.translate >= 0, "affine.translate", self.translate, "0 or more pixels")
        _require(0 <= self.scale < 1, "affine.scale", self.scale, "at least 0 and below 1")
        _require(0 <= self.shear < 80, "affine.shear", self.shear, "at least 0 and below 80")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        if not (self.degrees or self.translate or self.scale or self.shear):
            return inputs
        cos, sin, tan, shrink, down, right = self._drawn(draws)
        y, x = _pixel_grid(inputs)
        centre_y, centre_x = (inputs.shape[2] - 1) / 2, (inputs.shape[3] - 1) / 2
        y = (y - centre_y - down) * shrink
        x = (x - centre_x - right) * shrink
        x = x - tan * y
        return _sampled(inputs, cos * y - sin * x + centre_y, sin * y + cos * x + centre_x)

    def _drawn(self, draws: Draws) -> tuple[Tensor, ...]:
        """`[B, 1, 1]` each: cosine, sine, tangent of the shear, 1 / size, pixels down and right."""
        # Angles in float64, rounded once: the same float32 on every device and in every batch.
        angle, shear, size, down, right = draws.symmetric(5)[:, :, None, None].double().unbind(1)
        angle = angle * math.radians(self.degrees)
        cos, sin = torch.cos(angle).float(), torch.sin(angle).float()
        tan = torch.tan(shear * math.radians(self.shear)).float()
        shrink = (1 / (1 + size * self.scale)).float()
        return (
            cos,
            sin,
            tan,
            shrink,
            (down * self.translate).float(),
            (right * self.translate).float(),
        )

    def moved(self, corners_BM4: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
        """As in `Op`; of a box that was turned or sheared, what holds its four corners."""
        cos, sin, tan, shrink, down, right = (each[:, 0] for each in self._drawn(draws))
        x1, y1, x2, y2 = corners_BM4.unbind(-1)
        old_x = torch.stack([x1, x2, x1, x2]) - size[1] / 2
        old_y = torch.stack([y1, y1, y2, y2]) - size[0] / 2
        y = cos * old_y + sin * old_x  # what `_changed` asks of a pixel, solved for the pixel
        x = cos * old_x - sin * old_y + tan * y
        y = y / shrink + down + size[0] / 2
        x = x / shrink + right + size[1] / 2
        return torch.stack([x.amin(0), y.amin(0), x.amax(0), y.amax(0)], dim=-1)


@final
@dataclass(frozen=True)
class Rotate(Op):
    """Rotate about the centre, at most `degrees` either way; `Affine(degrees=degrees)`."""

    dims = IMAGES
    keeps_boxes = True
    degrees: float = 15.0

    def __post_init__(self) -> None:
        Affine(degrees=self.degrees)

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        return Affine(degrees=self.degrees)(inputs, draws)

    def moved(self, corners_BM4: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
        """As in `Op`."""
        return Affine(degrees=self.degrees).moved(corners_BM4, size, draws)


@final
@dataclass(frozen=True)
class Elastic(Op):
    """Move every pixel by a smooth random field: uniform noise, Gaussian blur, times `alpha`.

    Paper: Simard, Steinkraus, Platt 2003, "Best practices for convolutional neural networks
    applied to visual document analysis"; there alpha 34 and sigma 4 on 29 x 29 pixels.

    Args:
        alpha: strength in pixels; the root mean square move along each side is about
            `alpha / (6.1 * sigma)` pixels.
        sigma: width of the blur in pixels.
    """

    dims = IMAGES
    alpha: float = 34.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        _require(self.alpha >= 0, "elastic.alpha", self.alpha, "0 or more pixels")
        _require(self.sigma > 0, "elastic.sigma", self.sigma, "more than 0 pixels")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        if not self.alpha:
            return inputs
        height, width = inputs.shape[2:]
        noise = draws.field(height, width)
        across = noise @ _blur_matrix(width, self.sigma, device=inputs.device)
        field = _blur_matrix(height, self.sigma, device=inputs.device) @ across * self.alpha
        y, x = _pixel_grid(inputs)
        return _sampled(inputs, y + field[:, 0], x + field[:, 1])


def _blur_matrix(size: int, sigma: float, *, device: torch.device) -> Tensor:
    """`[size, size]`, symmetric: Gaussian weights that sum to one on an endless line, zero fill."""
    reach = math.ceil(4 * sigma)
    total = sum(math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1))
    place = torch.arange(size, device=device, dtype=torch.float32)
    return torch.exp(-0.5 * ((place[:, None] - place) / sigma).square()) / total


@final
@dataclass(frozen=True)
class Cutout(Op):
    """Blank a square whose centre lies anywhere, so that it may reach over the edge.

    Paper: DeVries, Taylor 2017, arXiv:1708.04552.

    Args:
        size: side of the square in pixels.
        fill: the value that it is filled with, in the [0, 1] scale.
    """

    dims = IMAGES
    size: int = 8
    fill: float = 0.0

    def __post_init__(self) -> None:
        _require(self.size >= 0, "cutout.size", self.size, "0 or more pixels")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        height, width = inputs.shape[2:]
        place = draws.uniform(2)
        y, x = _pixel_grid(inputs)
        top = (place[:, 0] * height).floor().view(-1, 1, 1) - self.size // 2
        left = (place[:, 1] * width).floor().view(-1, 1, 1) - self.size // 2
        inside = (y >= top) & (y < top + self.size) & (x >= left) & (x < left + self.size)
        return inputs.masked_fill(inside[:, None], self.fill)


@final
@dataclass(frozen=True)
class Brightness(Op):
    """Add one number, at most `amount` either way, to an image; kept within [0, 1]."""

    dims = IMAGES
    keeps_boxes = True
    amount: float = 0.2

    def __post_init__(self) -> None:
        _require(0 <= self.amount <= 1, "brightness.amount", self.amount, "between 0 and 1")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        change = draws.symmetric().view(-1, 1, 1, 1) * self.amount
        return (inputs + change).clamp(0, 1)


@final
@dataclass(frozen=True)
class Contrast(Op):
    """Stretch an image about mid-grey by 1 - `amount` … 1 + `amount`; kept within [0, 1]."""

    dims = IMAGES
    keeps_boxes = True
    amount: float = 0.2

    def __post_init__(self) -> None:
        _require(0 <= self.amount <= 1, "contrast.amount", self.amount, "between 0 and 1")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        factor = 1 + draws.symmetric().view(-1, 1, 1, 1) * self.amount
        # Written so that factor 1 gives the very same numbers.
        return (inputs + (inputs - 0.5) * (factor - 1)).clamp(0, 1)


@final
@dataclass(frozen=True)
class Noise(Op):
    """Add bell-shaped noise to every value; `std` in units of what the op is given."""

    dims = ANY
    keeps_boxes = True
    std: float = 0.1

    def __post_init__(self) -> None:
        _require(self.std >= 0, "noise.std", self.std, "0 or more")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        return inputs + draws.normal(*inputs.shape[1:]) * self.std


@final
@dataclass(frozen=True)
class Scale(Op):
    """Multiply a signal by one number within 1 - `amount` … 1 + `amount`."""

    dims = SIGNALS
    amount: float = 0.1

    def __post_init__(self) -> None:
        _require(0 <= self.amount < 1, "scale.amount", self.amount, "at least 0 and below 1")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        return inputs * (1 + draws.symmetric().view(-1, 1, 1) * self.amount)


@final
@dataclass(frozen=True)
class Shift(Op):
    """Move a signal in time by at most `steps` either way; zero (its mean) comes in."""

    dims = SIGNALS
    steps: int = 4

    def __post_init__(self) -> None:
        _require(self.steps >= 0, "shift.steps", self.steps, "0 or more")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        padded = F.pad(inputs, (self.steps, self.steps))[:, :, None]
        left = self.steps - draws.whole(self.steps)
        return _windows(padded, torch.zeros_like(left), left, (1, inputs.shape[2]))[:, :, 0]


@final
@dataclass(frozen=True)
class Roll(Op):
    """Turn a signal round in time by at most `steps` either way; what leaves comes in again."""

    dims = SIGNALS
    steps: int = 4

    def __post_init__(self) -> None:
        _require(self.steps >= 0, "roll.steps", self.steps, "0 or more")

    def _changed(self, inputs: Tensor, draws: Draws) -> Tensor:
        length = inputs.shape[2]
        times = torch.arange(length, device=inputs.device)
        source = (times - draws.whole(self.steps)[:, None]) % length
        return inputs.gather(2, source[:, None].expand_as(inputs))


CATALOGUE: dict[str, type[Op]] = {
    "affine": Affine,
    "brightness": Brightness,
    "contrast": Contrast,
    "crop": Crop,
    "cutout": Cutout,
    "elastic": Elastic,
    "flip": Flip,
    "jitter": Jitter,
    "noise": Noise,
    "roll": Roll,
    "rotate": Rotate,
    "scale": Scale,
    "shift": Shift,
}
