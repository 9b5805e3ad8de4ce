"""An ONNX file as teacher, run by ONNX Runtime on the CPU."""

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import final

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from potstill.errors import ModelError
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.fingerprints import digest


@final
class OnnxTeacher(Teacher):
    """The first output of an ONNX model, fed through its first input.

    Args:
        path: the file.
        kind: what the output is; `LOGPROBS` for files that end in probabilities' logarithm.
        probabilities: the file ends in a softmax; the logarithm is taken here.
        raw_inputs: feed the inputs before normalisation (files that Potstill wrote do their own).
        threads: of ONNX Runtime; 0 lets it choose.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        kind: LogitKind = LogitKind.RAW,
        probabilities: bool = False,
        raw_inputs: bool = False,
        threads: int = 0,
    ) -> None:
        self.path = Path(path)
        self._kind = LogitKind.LOGPROBS if probabilities else LogitKind(kind)
        self._probabilities, self._raw_inputs = probabilities, raw_inputs
        self._session = _open(self.path, threads)
        first = self._session.get_inputs()[0]
        self._input, self._dtype = first.name, _DTYPES.get(first.type, np.float32)
        self._runner: Callable[[np.ndarray], np.ndarray] = self._run

    def run_by(self, runner: Callable[[np.ndarray], np.ndarray]) -> "OnnxTeacher":
        """The same teacher, its file run by something else."""
        other = copy(self)
        other._runner = runner
        return other

    def fed(self, batch: Batch) -> Tensor:
        """What the file is given of a batch.

        Raises:
            ModelError: it takes raw inputs and the batch carries none.
        """
        source = batch.raw if self._raw_inputs else batch.inputs
        if source is None:
            raise ModelError(
                f"{self.path.name} takes raw inputs, and this batch carries none. "
                "Build the feed with keep_raw=True, or set raw_inputs=False."
            )
        return source

    def as_fed(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs in the type that the file takes."""
        return inputs.astype(self._dtype)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run(None, {self._input: inputs})[0])

    def offers(self) -> Offers:
        """The output; its width if the file fixes it."""
        width = self._session.get_outputs()[0].shape
        classes = width[-1] if width and isinstance(width[-1], int) else None
        return Offers(logits=self._kind, num_classes=classes)

    def fingerprint(self) -> str:
        """Digest of the file and of how it is fed."""
        return digest([self.path.read_bytes(), str(self._raw_inputs), str(self._probabilities)])

    @property
    def reads_raw(self) -> bool:
        """As it was made."""
        return self._raw_inputs

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Run the file on the batch."""
        source = self.fed(batch)
        try:
            answer = self._runner(self.as_fed(source.detach().cpu().numpy()))
        except Exception as error:  # ONNX Runtime raises its own family, without a common base
            raise ModelError(
                f"{self.path.name} cannot run on inputs {tuple(source.shape)}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        values = torch.from_numpy(np.asarray(answer)).float().to(batch.inputs.device)
        if self._probabilities:
            values = values.clamp_min(torch.finfo(torch.float32).tiny).log()
        return Signals(logits=Logits(values))


_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise ModelError(f"There is no ONNX file at {path}. Check `path`.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(
            f"{path} is not an ONNX model that ONNX Runtime opens: {str(error).splitlines()[0]}"
        ) from error
