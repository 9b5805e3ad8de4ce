"""An ONNX file as teacher, run by ONNX Runtime on the CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import onnxruntime
import torch

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
        self._path = Path(path)
        self._kind = LogitKind.LOGPROBS if probabilities else LogitKind(kind)
        self._probabilities, self._raw_inputs = probabilities, raw_inputs
        self._session = _open(self._path, threads)
        first = self._session.get_inputs()[0]
        self._input, self._dtype = first.name, _DTYPES.get(first.type, np.float32)

    def offers(self) -> Offers:
        """The output; its width if the file fixes it."""
        width = self._session.get_outputs()[0].shape
        classes = width[-1] if width and isinstance(width[-1], int) else None
        return Offers(logits=self._kind, num_classes=classes)

    def fingerprint(self) -> str:
        """Digest of the file and of how it is fed."""
        return digest([self._path.read_bytes(), str(self._raw_inputs), str(self._probabilities)])

    @property
    def reads_raw(self) -> bool:
        """As it was made."""
        return self._raw_inputs

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Run the file on the batch."""
        source = batch.raw if self._raw_inputs else batch.inputs
        if source is None:
            raise ModelError(
                f"{self._path.name} takes raw inputs, and this batch carries none. "
                "Build the feed with keep_raw=True, or set raw_inputs=False."
            )
        try:
            (answer, *_) = self._session.run(
                None, {self._input: source.detach().cpu().numpy().astype(self._dtype)}
            )
        except Exception as error:  # ONNX Runtime raises its own family, without a common base
            raise ModelError(
                f"{self._path.name} cannot run on inputs {tuple(source.shape)}: "
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
