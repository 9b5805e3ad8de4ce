"""Whether an exported file is what was exported, and opens."""

from pathlib import Path

from potstill.errors import MissingExtra
from potstill.export.manifest import Artefact, check_artefact
from potstill.export.opened import open_artefact


def check_sound(path: Path) -> Artefact:
    """The manifest's entry of a file that is unaltered and that its runtime opens.

    Where the runtime is not installed the digests alone are compared.

    Raises:
        ExportError: it is corrupt, was altered, is unknown to the manifest, or cannot be opened.
    """
    artefact = check_artefact(path)
    try:
        open_artefact(path.with_name(artefact["file"]))
    except MissingExtra:
        return artefact
    return artefact
