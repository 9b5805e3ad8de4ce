"""The front end against plain loops, and against Transformers' filter bank and spectrogram."""

import cmath
import math

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from potstill.errors import ModelError
from potstill.models.log_mel import FLOOR, LogMel, mel_bands


def _by_loops(wave: list[float], front: LogMel) -> list[list[float]]:
    bands = front.bands_KM.tolist()
    frames = []
    for start in range(0, len(wave) - front.window + 1, front.hop):
        tapered = [
            wave[start + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / front.window))
            for n in range(front.window)
        ]
        energies = []
        for k in range(front.size // 2 + 1):
            total = sum(
                value * cmath.exp(-2j * math.pi * k * n / front.size)
                for n, value in enumerate(tapered)
            )
            energies.append(abs(total) ** 2)
        frames.append(
            [
                math.log(sum(e * row[m] for e, row in zip(energies, bands, strict=True)) + FLOOR)
                for m in range(front.mels)
            ]
        )
    return frames


def test_log_mel_equals_a_fourier_transform_by_loops() -> None:
    front = LogMel(2000, mels=8)
    wave = torch.randn(1, 130, generator=torch.Generator().manual_seed(0))

    got = front(wave)[0].T

    expected = torch.tensor(_by_loops(wave[0].tolist(), front))
    assert torch.allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_it_equals_the_filter_bank_and_spectrogram_of_transformers(rate: int) -> None:
    front = LogMel(rate)
    wave = torch.randn(1, rate // 2, generator=torch.Generator().manual_seed(1))

    got = front(wave)[0].numpy()

    bank = mel_filter_bank(
        front.size // 2 + 1, 40, 20.0, rate / 2, rate, norm=None, mel_scale="htk"
    )
    assert (
        np.abs(bank - mel_bands(front.size // 2 + 1, 40, sampling_rate=rate).numpy()).max() < 1e-6
    )
    power = spectrogram(
        wave[0].numpy(),
        window_function(front.window, "hann"),
        frame_length=front.window,
        hop_length=front.hop,
        fft_length=front.size,
        power=2.0,
        center=False,
        mel_filters=bank,
        mel_floor=0.0,
    )
    assert np.abs(np.log(power + FLOOR) - got).max() < 1e-4


@pytest.mark.parametrize("length", [100, 137, 400])
def test_frames_are_those_of_unfold(length: int) -> None:
    front = LogMel(4000, mels=10)
    wave = torch.randn(2, length)

    frames = front._frames(wave)

    assert torch.equal(frames, wave.unfold(-1, front.window, front.hop))


def test_what_comes_later_changes_no_frame() -> None:
    front = LogMel(4000, mels=10)
    wave = torch.randn(1, 500)

    longer = front(torch.cat([wave, torch.randn(1, 333)], dim=1))

    assert torch.allclose(longer[:, :, : front(wave).shape[2]], front(wave), atol=1e-5)


def test_bands_without_a_frequency_are_refused() -> None:
    with pytest.raises(ModelError, match="80 mel bands at 4000 Hz are so narrow"):
        LogMel(4000, mels=80)
