"""Samples to look at and hear: images, signals as lines, sounds, table rows as telling features."""

import base64
import io
import struct
import wave
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 128  # a side; larger images are averaged down, to keep the page small
MAX_POINTS = 240  # of a signal
MAX_CHANNELS = 3
MAX_LETTERS = 400  # of a text
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A feature of a table row: how far it lies from the other rows, in standard deviations."""

    name: str
    value: str
    deviation: float


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The address of an image or sound, lines of a signal (points of an SVG), facts, a text."""

    image: str = ""
    text: str = ""
    sound: str = ""
    lines: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


def image_picture(pixels_CHW: NDArray[np.generic], *, longest: int = MAX_PIXELS) -> Picture:
    """An image `[C, H, W]`, uint8 or floats in 0..1, as a PNG inside an address.

    One channel is grey, three are red, green and blue; of any other number the first is shown.
    """
    bytes_CHW = _as_bytes(pixels_CHW)
    channels = bytes_CHW if len(bytes_CHW) == 3 else bytes_CHW[:1]
    small = _shrink(channels, longest)
    return Picture(
        image="data:image/png;base64," + base64.b64encode(encode_png(small)).decode("ascii")
    )


def _as_bytes(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8)
    floats = np.nan_to_num(pixels.astype(np.float64))
    scale = 255.0 if floats.max(initial=0.0) <= 1.0 else 1.0
    return np.clip(floats * scale, 0, 255).astype(np.uint8)


def _shrink(pixels_CHW: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Averages over square blocks until neither side is longer than so many pixels."""
    channels, height, width = pixels_CHW.shape
    step = -(-max(height, width) // longest)
    if step == 1 or min(height, width) < step:
        return pixels_CHW
    rows, columns = height // step, width // step
    blocks = pixels_CHW[:, : rows * step, : columns * step].astype(np.float64)
    means = blocks.reshape(channels, rows, step, columns, step).mean(axis=(2, 4))
    return np.asarray(means.round(), dtype=np.uint8)


def encode_png(pixels_CHW: NDArray[np.uint8]) -> bytes:
    """A PNG file (ISO/IEC 15948) of 8-bit grey (C = 1) or colour (C = 3)."""
    channels, height, width = pixels_CHW.shape
    rows = pixels_CHW.transpose(1, 2, 0).reshape(height, width * channels)
    unfiltered = np.zeros((height, 1), dtype=np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = zlib.compress(np.hstack([unfiltered, rows]).tobytes(), 9)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def signal_picture(signal_CL: NDArray[np.generic]) -> Picture:
    """A signal `[C, L]` as SVG points in a box of 100 × 40, at most three channels."""
    floats = np.nan_to_num(signal_CL.astype(np.float64))[:MAX_CHANNELS]
    step = max(1, floats.shape[1] // MAX_POINTS)
    thinned = floats[:, ::step]
    low, high = float(thinned.min()), float(thinned.max())
    y = 38.0 - 36.0 * (thinned - low) / ((high - low) or 1.0)
    x = np.linspace(0.0, 100.0, thinned.shape[1])
    return Picture(
        lines=tuple(" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, row, strict=True)) for row in y)
    )


def sound_picture(wave_L: NDArray[np.generic], *, sampling_rate: int) -> Picture:
    """A wave of int16 as its outline, and to be heard: a WAV file inside an address."""
    size = max(1, -(-len(wave_L) // (MAX_POINTS // 2)))
    blocks = np.pad(wave_L, (0, -len(wave_L) % size)).reshape(-1, size).astype(np.float64)
    outline = np.stack([blocks.max(axis=1), blocks.min(axis=1)])
    content = encode_wav(wave_L.astype(np.int16), sampling_rate=sampling_rate)
    return Picture(
        lines=signal_picture(outline).lines,
        sound="data:audio/wav;base64," + base64.b64encode(content).decode("ascii"),
    )


def encode_wav(wave_L: NDArray[np.int16], *, sampling_rate: int) -> bytes:
    """A WAV file of one channel of 16-bit samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sampling_rate)
        file.writeframes(wave_L.astype("<i2").tobytes())
    return buffer.getvalue()


def text_picture(text: str) -> Picture:
    """A text, cut where it is long."""
    return Picture(text=text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 1]}…")


def table_picture(
    row: int, *, rows_MF: NDArray[np.generic], names: tuple[str, ...], num_facts: int = 4
) -> Picture:
    """The features of a row that lie furthest from the other rows `[M, F]`."""
    floats = rows_MF.astype(np.float64)
    spread = np.nanstd(floats, axis=0)
    centre = np.nanmean(floats, axis=0)
    distance = np.where(spread > 0, (floats[row] - centre) / np.where(spread > 0, spread, 1), 0.0)
    order = np.argsort(-np.abs(np.nan_to_num(distance)), kind="stable")[:num_facts]
    return Picture(
        facts=tuple(
            Fact(
                name=names[i] if i < len(names) else f"feature {i}",
                value=f"{floats[row, i]:.4g}",
                deviation=float(distance[i]),
            )
            for i in order
        )
    )


def text_line(values: NDArray[np.float64]) -> str:
    """A line of values as a row of block characters, for places that show only text."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ""
    low, high = float(finite.min()), float(finite.max())
    levels = np.round((finite - low) / ((high - low) or 1.0) * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[level] for level in levels)
