"""Sounds that can be told apart, without any recording: tones with a little noise."""

from pathlib import Path

import numpy as np

RATE = 4000
TONES = (300.0, 700.0, 1500.0)


def tone(kind: int, *, seconds: float, seed: int) -> np.ndarray:
    """One tone of int16, at its own loudness and phase."""
    chance = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * (TONES[kind] * times + chance.uniform()))
    values = chance.uniform(0.2, 0.6) * wave + chance.normal(0, 0.01, len(times))
    return np.rint(values * 32767).clip(-32768, 32767).astype(np.int16)


def archive(path: Path, *, each: int = 20, test: int = 6) -> Path:
    """`each` training and `test` test tones of every kind, of unequal length."""
    waves, labels, is_test = [], [], []
    for number in range((each + test) * len(TONES)):
        kind = number % len(TONES)
        seconds = 0.2 + 0.02 * (number % 7)
        waves.append(tone(kind, seconds=seconds, seed=number))
        labels.append(kind)
        is_test.append(number >= each * len(TONES))
    np.savez_compressed(
        path,
        pcm=np.concatenate(waves),
        offset=np.cumsum([0, *map(len, waves)]),
        label=np.array(labels),
        is_test=np.array(is_test),
        sampling_rate=np.array(RATE),
    )
    return path
