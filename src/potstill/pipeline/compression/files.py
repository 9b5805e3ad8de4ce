"""Files of squeezed models: written, weighed, and asked as they will be in use."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.compress.weight import Precision, bytes_of
from potstill.data.samples import Samples
from potstill.export.int8 import quantise_onnx
from potstill.export.onnx import export_onnx
from potstill.measure.latency import open_session
from potstill.measure.size import file_bytes
from potstill.pipeline.workshop import Workshop
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.runtime.texts import are_texts, fed, trimmed
from potstill.signals import Batch, Logits, Signals
from potstill.teachers.fingerprints import digest

MODEL = "model.onnx"
_ROWS = 2


def write_model(
    shop: Workshop,
    module: nn.Module,
    path: Path,
    *,
    precision: Precision,
    rows: int,
    skip: Sequence[str] = (),
) -> Path:
    """Write a model as one file that takes what the run's other files take.

    Args:
        shop: whose data it is about.
        module: in float32.
        path: where.
        precision: int8 sees ranges on training rows.
        rows: how many.
        skip: layers that stay in float32.
    """
    data = shop.experiment.data
    texts = data.normalise.tokens
    whole = path if precision is Precision.FLOAT32 else path.with_name(f"float32-{path.name}")
    export_onnx(
        module.cpu(),
        torch.from_numpy(given(shop, data.test, _ROWS)),
        whole,
        normalise=None if texts else data.normalise.as_module(),
        labels=data.classes,
        input_description="tokens" if texts else f"{data.kind}, raw values",
        texts=texts,
    )
    if precision is Precision.INT8:
        quantise_onnx(whole, path, given(shop, data.lessons, rows), skip=skip)
        whole.unlink()
    return path


def given(shop: Workshop, samples: Samples, rows: int) -> NDArray[np.generic]:
    """The first samples as files take them: raw, or planes of tokens."""
    data = shop.experiment.data
    some = samples.inputs[:rows]
    return (data.normalise(some) if data.normalise.tokens else some.float()).numpy()


def overhead(shop: Workshop, module: nn.Module, precision: Precision, *, rows: int) -> int:
    """Bytes of a file beside its weights, which hardly change when layers become narrower."""
    with tempfile.TemporaryDirectory(dir=shop.folder) as folder:
        path = write_model(
            shop, module, Path(folder) / MODEL, precision=precision, rows=min(rows, 16)
        )
        return file_bytes(path) - bytes_of(module, precision)


@final
class InFile(Teacher):
    """A file on ONNX Runtime that is asked about batches of the run.

    Args:
        path: the file.
        texts: it takes planes of tokens.
    """

    def __init__(self, path: Path, *, texts: bool) -> None:
        self._path, self._texts = path, texts
        self._session = open_session(path, threads=torch.get_num_threads())
        self._names = [each.name for each in self._session.get_inputs()]

    def offers(self) -> Offers:
        """Logits."""
        return Offers(logits=LogitKind.RAW)

    def fingerprint(self) -> str:
        """Of its bytes."""
        return digest([self._path.read_bytes()])

    @property
    def reads_raw(self) -> bool:
        """Files normalise themselves; tokens are whole numbers either way."""
        return not self._texts

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Its answers to a batch."""
        rows = _rows(batch, texts=self._texts)
        given_rows = trimmed(rows) if are_texts(rows) else rows
        said = self._session.run(None, fed(self._names, given_rows))[0]
        return Signals(logits=Logits(torch.from_numpy(np.asarray(said)).float()))


def _rows(batch: Batch, *, texts: bool) -> NDArray[np.generic]:
    source: Tensor | None = batch.inputs if texts else batch.raw
    assert source is not None, "feeds for evaluation keep raw inputs"
    return (source.long() if texts else source.float()).cpu().numpy()
