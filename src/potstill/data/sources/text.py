"""Plain text files, for language models: what is there is read as it is, also from .gz."""

import gzip
from pathlib import Path

from potstill.data.assembly import PARTS, Raw
from potstill.data.language import OPTIONS as LANGUAGE_OPTIONS
from potstill.data.language import read_documents
from potstill.data.options import Options
from potstill.data.samples import TargetKind
from potstill.data.sources.request import Request
from potstill.errors import DataError, RecipeError

OPTIONS = frozenset({"path", "files", "documents"}) | (
    LANGUAGE_OPTIONS - {"prompt", "answer", "messages", "template", "answers_only"}
)
_DOCUMENTS = ("file", "line", "paragraph")


def read(request: Request) -> Raw:
    """The file at `path:`, or `files: {train: a.txt, validation: b.txt.gz, test: c.txt}`.

    `documents:` says what one text is: the whole file (default), a line, or a paragraph (what
    stands between empty lines).

    Raises:
        RecipeError: the task is not about language models, or neither path nor files is given.
        DataError: no such file, or one that is no UTF-8 text.
    """
    options = request.options
    if request.target_kind is not TargetKind.TOKENS:
        raise RecipeError(
            "Data source `text` is for `task: causal_lm`; use `hf` for labelled texts."
        )
    path, files = options.text("path"), options.mapping("files")
    if (path is None) == (not files):
        raise RecipeError("Data source `text` needs either `path:` or `files: {train: ...}`.")
    named = Options(files, known=PARTS, owner="`files:`")
    paths = {"train": path} if path else {p: named.required(p, why="a file") for p in files}
    if "train" not in paths:
        raise DataError("`files:` names no training part; give `train:`.")
    unit = options.text("documents", choices=_DOCUMENTS) or "file"
    places = {part: Path(file).expanduser() for part, file in paths.items() if file}
    parts = {part: _documents(place, unit) for part, place in places.items()}
    return read_documents(parts, request=request, name=places["train"].name.split(".")[0])


def _documents(path: Path, unit: str) -> list[str]:
    text = _text(path)
    match unit:
        case "line":
            found = text.splitlines()
        case "paragraph":
            found = "\n".join(line.rstrip() for line in text.splitlines()).split("\n\n")
        case _:
            found = [text]
    kept = [each.strip("\n") if unit != "file" else each for each in found if each.strip()]
    if not kept:
        raise DataError(f"`{path}` holds no text; give another file.")
    return kept


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"There is no file `{path}`; check the path (relative to {Path.cwd()}).")
    try:
        content = path.read_bytes()
        plain = gzip.decompress(content) if path.suffix == ".gz" else content
        return plain.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"`{path}` cannot be read as UTF-8 text ({error}); convert it, or check the file."
        ) from error
