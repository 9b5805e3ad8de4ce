"""From arrays as people store them to input tensors: `[N, C, H, W]`, `[N, C, L]` or `[N, F]`."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.data.samples import Kind
from potstill.errors import DataError

Array = npt.NDArray[np.generic]
CHANNELS = (1, 3, 4)
LAYOUTS = ("nchw", "nhwc", "ncl", "nlc")
_CHUNK = 4096


def guess_kind(array: Array) -> Kind:
    """Rank 2 is a table, uint8 of rank 3 or 4 and anything of rank 4 is images, rank 3 signals."""
    if array.ndim == 2:
        return Kind.TABLE
    if array.ndim == 4 or (array.ndim == 3 and array.dtype == np.uint8):
        return Kind.IMAGE
    if array.ndim == 3:
        return Kind.SIGNAL
    raise DataError(
        f"Inputs of shape {array.shape} are no table [N, F], signal [N, C, L] or image "
        "[N, H, W], [N, H, W, C], [N, C, H, W]; bring them to one of these shapes."
    )


def to_inputs(array: Array, *, kind: Kind, layout: str | None, part: str) -> Tensor:
    """The tensor of one part.

    Args:
        array: images `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]`, all uint8 (or other numbers
            that are whole and within 0 … 255, or in steps of 1/255 within 0 … 1); signals `[N, L]`
            or `[N, C, L]`; tables `[N, F]`.
        kind: what they are.
        layout: `nchw` or `nhwc`, `ncl` or `nlc`; `None` looks for an axis of 1, 3 or 4 channels in
            images and takes signals as `ncl`.
        part: for messages.

    Raises:
        DataError: wrong rank, not numbers, no rows, NaN or inf, values that are no pixels.
    """
    if kind is Kind.TEXT:
        return torch.from_numpy(np.array(array, dtype=np.int32, order="C"))
    if kind is Kind.AUDIO:
        return torch.from_numpy(np.array(array, dtype=np.int16, order="C"))
    if array.dtype.kind not in "buif":
        raise DataError(
            f"The {part} inputs hold {array.dtype} values, and numbers are expected; convert text "
            "to numbers or classes first."
        )
    ranks = {Kind.TABLE: (2,), Kind.SIGNAL: (2, 3), Kind.IMAGE: (3, 4)}[kind]
    if array.ndim not in ranks:
        wanted = " or ".join(str(rank) for rank in ranks)
        raise DataError(
            f"The {part} inputs have shape {array.shape}, and `kind: {kind}` needs {wanted} axes "
            "(the first counts the samples); reshape them or set another `kind:`."
        )
    if not array.size:
        raise DataError(
            f"The {part} inputs are empty (shape {array.shape}); give at least one row."
        )
    if kind is Kind.IMAGE:
        return _images(array, layout=layout, part=part)
    with np.errstate(over="ignore"):  # what becomes inf is reported with its place
        values = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if kind is Kind.SIGNAL:
        if array.ndim == 2:
            values = values[:, None]
        elif layout == "nlc":
            values = values.transpose(1, 2).contiguous()
    return values


def check_finite(inputs: Tensor, *, part: str, features: tuple[str, ...] | None) -> None:
    """Raise `DataError` that says where the first NaN or inf lies (rows and columns from 0)."""
    if not inputs.is_floating_point() or bool(inputs.sum().isfinite()):
        return
    bad = (~inputs.isfinite()).nonzero()
    if not len(bad):
        return
    row, *place = bad[0].tolist()
    value = inputs[tuple(bad[0])].item()
    if inputs.ndim == 2:
        column = place[0]
        where = f"column {column}" if features is None else f"column `{features[column]}`"
    else:
        where = f"channel {place[0]}, time {place[1]}"
    raise DataError(
        f"The {part} inputs hold {value} in row {row}, {where} ({len(bad)} such values in all); "
        "fill or drop these values (values beyond 3.4e38 count as inf)."
    )


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 images `[N, C, H, W]` at another height and width: bilinear, antialiased, rounded."""
    if images.shape[2:] == size:
        return images
    chunks = [
        F.interpolate(chunk.float(), size=size, mode="bilinear", antialias=True)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        for chunk in torch.split(images, _CHUNK)
    ]
    return torch.cat(chunks)


def _images(array: Array, *, layout: str | None, part: str) -> Tensor:
    if array.ndim == 3:
        array, layout = array[:, None], "nchw"
    pixels = torch.from_numpy(np.array(_pixels(array, part=part), order="C"))
    if (layout or _guess_layout(array.shape)) == "nhwc":
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    return pixels


def _guess_layout(shape: tuple[int, ...]) -> str:
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first == last:
        raise DataError(
            f"Images of shape {shape} could have their channels in axis 1 or in axis 3; say which "
            "with `layout: nchw` or `layout: nhwc`."
        )
    return "nchw" if first else "nhwc"


def _pixels(array: Array, *, part: str) -> Array:
    """The same pixels as uint8, if nothing is lost by it."""
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 255:
        if array.dtype.kind == "f" and high <= 1:
            values = values * 255
        whole = np.rint(values)
        if np.abs(values - whole).max() < 1e-3:
            return whole.astype(np.uint8)
    raise DataError(
        f"The {part} images hold {array.dtype} values from {low:g} to {high:g}, and pixels are "
        "whole numbers from 0 to 255 (uint8); scale and round them, or set `kind: signal` or "
        "`kind: table`."
    )
