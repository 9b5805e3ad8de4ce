"""One file a model; a student that cannot be written stops the run, a teacher does not."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from potstill.errors import ExportError
from potstill.pipeline.workshop import Workshop
from potstill.runtime.files import write_json


def write_each(
    shop: Workshop,
    modules: Mapping[str, nn.Module],
    folder: Path,
    write: Callable[[nn.Module, Path], object],
) -> tuple[dict[str, Path], dict[str, object]]:
    """The files by role, and how each answers beside its model, which `parity.json` keeps.

    Args:
        shop: told of what is written, and warned of a teacher that is not.
        modules: by role.
        folder: `export` in the run folder.
        write: writes one model to a path and compares the two.

    Raises:
        ExportError: a student cannot be written, or its file answers differently.
    """
    written: dict[str, Path] = {}
    parity: dict[str, object] = {}
    for role, module in modules.items():
        path = folder / f"{role}.onnx"
        shop.progress.note(f"exporting {role} to {path}")
        try:
            parity[role] = write(module, path)
        except ExportError as error:
            path.unlink(missing_ok=True)
            if role != "teacher":
                raise
            shop.warn(f"The teacher was not exported: {error}")
            continue
        written[role] = path
    write_json(folder / "parity.json", {"models": parity})
    return written, parity
