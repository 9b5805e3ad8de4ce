"""The front end of models that hear: from a wave to log energies in mel bands, inside the model.

So an exported file takes waves and a device needs nothing else.
Shapes: B sounds, L samples, T frames, W samples of a frame, K frequencies, M mel bands.
"""

import math
from typing import final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.initial import check_positive

FLOOR = 1e-6
"""Added to energies before the logarithm; a wave of full scale has some hundreds."""


@final
class LogMel(nn.Module):
    """Log-mel energies: frames under Hann's window, squared Fourier transform, triangles.

    Frame t covers samples `t * hop` … `t * hop + window - 1`: no frame looks ahead of its own last
    sample, and none is padded. Bands are triangles of height 1, evenly spaced on the mel scale of
    HTK, `2595 log10(1 + f / 700)`, from 20 Hz to half the sampling rate.

    Args:
        sampling_rate: samples a second.
        mels: M.
        window: seconds of a frame.
        hop: seconds between frames.

    Raises:
        ModelError: sizes that leave a frame or a band empty.
    """

    taper_W: Tensor
    bands_KM: Tensor

    def __init__(
        self, sampling_rate: int, *, mels: int = 40, window: float = 0.025, hop: float = 0.010
    ) -> None:
        super().__init__()
        check_positive("sampling_rate", sampling_rate)
        check_positive("mels", mels)
        self.sampling_rate, self.mels = sampling_rate, mels
        self.window, self.hop = round(window * sampling_rate), round(hop * sampling_rate)
        if self.window < 4 or self.hop < 1 or self.hop > self.window:
            raise ModelError(
                f"A frame of {window:g} s every {hop:g} s has {self.window} and {self.hop} samples "
                f"at {sampling_rate} Hz; give a window of 4 samples or more, and a hop within it."
            )
        self.size = 1 << (self.window - 1).bit_length()
        bands_KM = mel_bands(self.size // 2 + 1, mels, sampling_rate=sampling_rate)
        if bool((bands_KM.sum(0) == 0).any()):
            raise ModelError(
                f"{mels} mel bands at {sampling_rate} Hz are so narrow that some hold no frequency "
                f"of a frame of {self.window} samples; give fewer `mels` or a longer `window`."
            )
        self.register_buffer(
            "taper_W", torch.hann_window(self.window, periodic=True), persistent=False
        )
        self.register_buffer("bands_KM", bands_KM, persistent=False)

    def num_frames(self, samples: int) -> int:
        """T of a sound of so many samples."""
        return (samples - self.window) // self.hop + 1

    def forward(self, wave_BL: Tensor) -> Tensor:
        """`[B, M, T]`, natural logarithms."""
        frames_BTW = self._frames(wave_BL) * self.taper_W
        spectrum_BTK = torch.fft.rfft(frames_BTW, self.size)
        power_BTK = spectrum_BTK.real.square() + spectrum_BTK.imag.square()
        frames_BMT: Tensor = (power_BTK @ self.bands_KM + FLOOR).log().transpose(1, 2)
        return frames_BMT

    def _frames(self, wave_BL: Tensor) -> Tensor:
        """`[B, T, W]`, as `unfold` gives them, by cutting and joining stretches of one hop.

        (An exported `unfold` carries the place of every sample of every frame in the file.)
        """
        num_frames = self.num_frames(wave_BL.shape[1])
        pieces = -(-self.window // self.hop)
        padded_BL = nn.functional.pad(wave_BL, (0, pieces * self.hop))
        used_BL = padded_BL[:, : (num_frames + pieces - 1) * self.hop]
        hops_BSH = used_BL.reshape(wave_BL.shape[0], -1, self.hop)
        joined = [hops_BSH[:, place : place + num_frames] for place in range(pieces)]
        return torch.cat(joined, dim=2)[:, :, : self.window]


def mel_bands(
    num_frequencies: int, mels: int, *, sampling_rate: int, lowest: float = 20.0
) -> Tensor:
    """`[K, M]` float32: triangles of height 1 on the mel scale of HTK."""
    edges = torch.linspace(_mel(lowest), _mel(sampling_rate / 2), mels + 2, dtype=torch.float64)
    hertz = 700 * (torch.pow(10, edges / 2595) - 1)
    frequencies_K = torch.linspace(0, sampling_rate / 2, num_frequencies, dtype=torch.float64)
    rising_KM = (frequencies_K[:, None] - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    falling_KM = (hertz[2:] - frequencies_K[:, None]) / (hertz[2:] - hertz[1:-1])
    return torch.minimum(rising_KM, falling_KM).clamp(min=0).float()


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
