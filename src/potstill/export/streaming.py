"""Models that hear, as a file that is run for every chunk of sound and keeps its state outside.

`<role>-streaming.onnx` takes a chunk, the last samples before it and the frames of the window, and
answers with logits, the samples and the frames for the next call. The log-mel frames of a chunk are
computed once; the body looks at the whole window again with each chunk. What it says is what the
model says about a window that ends with the chunk: nothing that comes later is looked at.

Shapes: one sound; H samples of a chunk, K samples kept, M mel bands, T frames of a window.
"""

from pathlib import Path
from typing import Protocol, TypedDict, final, runtime_checkable

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import ExportError
from potstill.export.onnx import export_graph
from potstill.export.parity import SMALLEST_SCALE
from potstill.runtime.modes import evaluating

NAMES = ("chunk", "samples", "frames")
BOUND = 1e-3
"""Relative difference that the file's logits may have from the model's."""


class _Front(Protocol):
    window: int
    hop: int
    sampling_rate: int

    def num_frames(self, samples: int) -> int: ...
    def __call__(self, wave_BL: Tensor) -> Tensor: ...


@runtime_checkable
class Hearing(Protocol):
    """A model whose front end and judgement can be told apart (`models.listening.Listener`)."""

    front: nn.Module

    def judge(self, frames_BMT: Tensor) -> Tensor:
        """The logits of frames."""
        ...


class Streamed(TypedDict):
    """How the streaming file answers beside the model, and what it looks at."""

    hop_ms: float
    window_ms: float
    look_ahead_ms: float
    chunks: int
    relative: float
    bound: float


@final
class _Streaming(nn.Module):
    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(
        self, chunk_1H: Tensor, samples_1K: Tensor, frames_1MT: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        assert isinstance(model, Hearing)
        wave_1L = torch.cat([samples_1K, chunk_1H / self.scale], dim=1)
        new_1MN = model.front(wave_1L)
        kept_1MT = torch.cat([frames_1MT, new_1MN], dim=2)[:, :, new_1MN.shape[2] :]
        return model.judge(kept_1MT), wave_1L[:, chunk_1H.shape[1] :], kept_1MT


def export_streaming(
    model: nn.Module, path: Path, *, samples: int, hop_ms: float, scale: float
) -> tuple[int, int]:
    """Write the streaming form of a model.

    Args:
        model: a `Hearing` one, float32 on the CPU.
        path: of the file.
        samples: of the window that the model was trained on.
        hop_ms: length of a chunk.
        scale: what a wave is divided by first, 32768 for int16.

    Returns:
        H and T.

    Raises:
        ExportError: a chunk is no whole number of frames, or the model has no ONNX form.
        StorageError: the file cannot be written.
    """
    front = _front_of(model)
    hop = hop_ms / 1000 * front.sampling_rate
    if hop < 1 or hop % front.hop:
        step = 1000 * front.hop / front.sampling_rate
        raise ExportError(
            f"A chunk of {hop_ms:g} ms is no whole number of the model's frames of {step:g} ms; "
            f"set `measure.hop_ms` to a multiple of {step:g}."
        )
    num_frames = int(front.num_frames(samples))
    state = initial_state(model, num_frames)
    given = dict(zip(NAMES, (torch.zeros(1, int(hop)), *state), strict=True))
    with evaluating(model), torch.no_grad():
        export_graph(
            _Streaming(model, scale),
            given,
            path,
            output=("logits", "next_samples", "next_frames"),
            fixed=True,
            description=f"float32 chunk [1, {int(hop)}] of a wave in units of int16, and the state",
        )
    return int(hop), num_frames


def initial_state(model: nn.Module, num_frames: int) -> tuple[Tensor, Tensor]:
    """Samples `[1, K]` and frames `[1, M, T]` of a silence that came before."""
    front = _front_of(model)
    kept = front.window - front.hop
    with torch.no_grad():
        silent_1M1 = front(torch.zeros(1, front.window))
    return torch.zeros(1, kept), silent_1M1.expand(-1, -1, num_frames).contiguous()


def _front_of(model: nn.Module) -> _Front:
    if not isinstance(model, Hearing):
        raise ExportError(
            f"{type(model).__name__} has no front end of its own, so it cannot hear chunk by chunk."
        )
    front: _Front = model.front  # type: ignore[assignment]  # a `LogMel`
    return front


@final
class OnnxListener:
    """Hears a stream with a streaming file.

    Args:
        path: that `export_streaming` wrote.
        samples: `[1, K]`, the state to begin with (`initial_state`).
        frames: `[1, M, T]`.
        threads: of ONNX Runtime.
    """

    def __init__(self, path: Path, samples: Tensor, frames: Tensor, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._first = samples.numpy(), frames.numpy()
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._samples, self._frames = self._first

    def hear(self, chunk_H: NDArray[np.generic]) -> NDArray[np.float32]:
        """`[num_outputs]`, the logits of the window that ends with this chunk of int16 sound."""
        given = (chunk_H.astype(np.float32).reshape(1, -1), self._samples, self._frames)
        logits, self._samples, self._frames = self._session.run(
            None, dict(zip(NAMES, given, strict=True))
        )
        said: NDArray[np.float32] = np.asarray(logits)[0]
        return said


def check_streaming(
    model: nn.Module,
    listener: OnnxListener,
    waves_NL: NDArray[np.generic],
    *,
    hop: int,
    num_frames: int,
    scale: float,
) -> Streamed:
    """Let the file hear sounds chunk by chunk, and the model the window at every chunk's end.

    Raises:
        ExportError: they say different things.
    """
    front = _front_of(model)
    length = (num_frames - 1) * front.hop + front.window
    stream = np.concatenate(list(waves_NL))
    chunks = len(stream) // hop
    said, expected = [], []
    listener.reset()
    # K samples of silence, then the stream: the frames of a window begin on the same grid
    padded = np.concatenate([np.zeros(length - hop, dtype=stream.dtype), stream])
    for number in range(chunks):
        said.append(listener.hear(stream[number * hop : (number + 1) * hop]))
        expected.append(padded[number * hop : number * hop + length])
    with evaluating(model), torch.no_grad():
        windows = torch.from_numpy(np.stack(expected)).float() / scale
        answers = torch.cat(
            [
                model.judge(model.front(part))  # type: ignore[operator]
                for part in torch.split(windows, 256)
            ]
        )
    difference = float((torch.from_numpy(np.stack(said)) - answers).abs().max())
    relative = difference / max(SMALLEST_SCALE, float(answers.abs().max()))
    if not relative <= BOUND:
        raise ExportError(
            f"The streaming file answers otherwise by {relative:.2g} of the logits' scale, more "
            f"than {BOUND:g}; leave `measure.hop_ms` out, and report this with the model's name."
        )
    return Streamed(
        hop_ms=1000 * hop / front.sampling_rate,
        window_ms=1000 * length / front.sampling_rate,
        look_ahead_ms=0.0,
        chunks=chunks,
        relative=relative,
        bound=BOUND,
    )
