"""A student in every form that is asked for: written, compared, listed, or refused."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, final

from torch import Tensor, nn

from potstill.errors import ExportError
from potstill.export.formats import BOUNDS, Bound, Format, file_of, precision_of
from potstill.export.half import halve_onnx
from potstill.export.int8 import quantise_onnx
from potstill.export.manifest import BEYOND, Artefact, Refused, artefact_files
from potstill.export.onnx import export_onnx
from potstill.export.parity import Parity, check_parity
from potstill.export.programs import export_executorch, export_program
from potstill.models import ModelConfig
from potstill.models.single import write_safetensors


@final
@dataclass(frozen=True, kw_only=True)
class Shipment:
    """A student and what its files are made and judged with.

    Args:
        module: the student.
        role: of the run; files are named after it.
        seed: which of the role's students it is.
        kind: of the targets, as `Task.kind`.
        calibration: `[N, ...]` training rows as the files take them, for 8 bits.
        samples: `[N, ...]` test rows as the files take them, for parity.
        normalise: stands before the student in every graph; of texts `None`.
        texts: rows are planes of tokens.
        labels: names of the classes.
        described: what the input is, for people.
        notes: further entries of the metadata of ONNX files.
        config: builds the student; `None` for modules of the user's own code.
        bounds: by precision; those that are not given are `BOUNDS`.
    """

    module: nn.Module
    role: str
    seed: int
    kind: str
    calibration: Tensor
    samples: Tensor
    normalise: nn.Module | None = None
    texts: bool = False
    labels: tuple[str, ...] | None = None
    described: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    config: ModelConfig | None = None
    bounds: Mapping[str, Bound] = field(default_factory=dict)

    def bound(self, form: Format) -> Bound:
        """Of a form's precision."""
        precision = precision_of(form)
        return self.bounds.get(precision, BOUNDS[precision])


def write_artefact(shipment: Shipment, form: Format, folder: Path) -> Artefact:
    """Write one form, compare its answers with the student's, and describe it.

    Raises:
        ExportError: it cannot be written, or answers otherwise than the bound allows; nothing of
            it is left then.
        MissingExtra: its library is not installed.
        StorageError: the folder cannot be written to.
    """
    path, bound = folder / file_of(form, shipment.role), shipment.bound(form)
    try:
        _WRITERS[form](shipment, path)
        parity = check_parity(
            shipment.module,
            path,
            shipment.samples,
            normalise=shipment.normalise,
            kind=shipment.kind,
            max_difference=bound.difference,
            min_agreement=bound.agreement,
        )
    except ExportError:
        for file in (path, path.with_name(path.name + BEYOND)):
            file.unlink(missing_ok=True)
        raise
    return described(shipment, form, path, parity)


def described(shipment: Shipment, form: Format, path: Path, parity: Parity) -> Artefact:
    """The manifest's entry of a file that was written and compared."""
    names = artefact_files(path)
    return Artefact(
        format=str(form),
        file=path.name,
        role=shipment.role,
        seed=shipment.seed,
        precision=precision_of(form),
        bytes=sum((path.parent / name).stat().st_size for name in names),
        files=names,
        parity=cast("Mapping[str, object]", parity),
    )


def refusal(form: Format, role: str, error: Exception) -> Refused:
    """The manifest's entry of a form that is not shipped."""
    return Refused(format=str(form), role=role, reason=str(error))


def _plain(shipment: Shipment, path: Path) -> None:
    export_onnx(
        shipment.module,
        shipment.samples,
        path,
        normalise=shipment.normalise,
        labels=shipment.labels,
        input_description=shipment.described,
        texts=shipment.texts,
        notes=shipment.notes,
    )


def _half(shipment: Shipment, path: Path) -> None:
    _by_way_of_onnx(shipment, lambda whole: halve_onnx(whole, path))


def _eighth(shipment: Shipment, path: Path) -> None:
    rows = shipment.calibration.numpy()
    _by_way_of_onnx(shipment, lambda whole: quantise_onnx(whole, path, rows))


def _by_way_of_onnx(shipment: Shipment, make: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        _plain(shipment, whole)
        make(whole)


def _captured(export: Callable[..., Path]) -> Callable[[Shipment, Path], None]:
    """A writer of the student's captured graph."""

    def write(shipment: Shipment, path: Path) -> None:
        export(
            shipment.module,
            shipment.samples,
            path,
            normalise=shipment.normalise,
            texts=shipment.texts,
        )

    return write


def _weights(shipment: Shipment, path: Path) -> None:
    config = shipment.config
    if config is None or config.source == "python":
        raise ExportError(
            "A safetensors file holds weights and the name of an architecture, and this student "
            "is made by your own code; ship it as `torch` or `onnx`."
        )
    write_safetensors(shipment.module, config, path)


_WRITERS: Mapping[Format, Callable[[Shipment, Path], None]] = {
    Format.ONNX: _plain,
    Format.ONNX_FP16: _half,
    Format.ONNX_INT8: _eighth,
    Format.EXECUTORCH: _captured(export_executorch),
    Format.TORCH: _captured(export_program),
    Format.SAFETENSORS: _weights,
}
