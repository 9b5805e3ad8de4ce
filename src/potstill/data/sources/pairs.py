"""Pairs of texts, what is read and what is to be written: line-aligned files, or two columns."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.data.assembly import PARTS, Raw, RawPart
from potstill.data.options import JSON, Options
from potstill.data.samples import Kind, TargetKind
from potstill.data.sources import hf
from potstill.data.sources.request import Request
from potstill.data.tokens import DEFAULT_LENGTH, Tokens
from potstill.data.vocabulary import train_tokenizer
from potstill.errors import DataError, RecipeError
from potstill.functional.tokens import IGNORED

OPTIONS = frozenset(
    {"files", "path", "config", "revision", "splits", "columns"}
    | {"tokenizer", "fetch_tokenizer", "max_length", "prefix"}
)
Lines = tuple[list[str], list[str]]


def read(request: Request) -> Raw:
    """Texts with the texts that are to be written for them, as tokens.

    - `files: {train: [train.en.gz, train.de.gz], …}`: two files a part, one text a line, line by
      line (also with .gz).
    - `files: {train: pairs.jsonl.gz}` or `path:` (a file, a folder or a hub id) with `columns:
      [en, de]`; columns within columns are written with a dot, `translation.en`.

    Tokens come from `tokenizer:`, a folder (or a hub id with `fetch_tokenizer: true`); or, with
    `tokenizer: {vocabulary: 6000}`, from byte-pair encoding learnt from both sides of the training
    part. Texts are cut after `max_length:` tokens; `prefix:` is put before what is read, which T5
    asks for. Reference texts for BLEU are kept whole, as they are in the data.

    Raises:
        RecipeError: options that do not go together.
        DataError: files that cannot be read, are not aligned, or hold empty texts.
        MissingExtra: `transformers`, or for columns `datasets`, is not installed.
    """
    if request.target_kind is not TargetKind.TOKENS:
        raise RecipeError(
            "Data source `pairs` is for `task: seq2seq`; choose that, or another source."
        )
    options = request.options
    files = options.mapping("files")
    aligned = any(
        isinstance(value, Sequence) and not isinstance(value, str) for value in files.values()
    )
    name, parts = _aligned(files) if aligned else _columns(options)
    tokens, notes = _tokens(options, parts["train"]), list[str]()
    max_length = options.whole("max_length") or DEFAULT_LENGTH
    if max_length < 3:
        raise RecipeError(f"`max_length: {max_length}` leaves no room for a text; give 3 or more.")
    made: dict[str, NDArray[np.int32]] = {}
    longest = 0
    for part, (sources, targets) in parts.items():
        read_with = [(options.text("prefix") or "") + source for source in sources]
        planes, cut = tokens.pairs(read_with, targets, max_length=max_length)
        made[part], longest = planes, max(longest, planes.shape[2])
        if cut:
            notes.append(
                f"{cut} of {len(sources)} {part} pairs have a text of more than {max_length} "
                "tokens, and its end was left out."
            )
    raw: dict[str, RawPart] = {}
    for part, planes in made.items():
        wide = tokens.padded(planes, longest)
        labels = np.where(wide[:, 3] > 0, wide[:, 2], IGNORED).astype(np.int64)
        raw[part] = RawPart(wide, labels, tuple(parts[part][1]))
    return Raw(name=name, parts=raw, kind=Kind.TEXT, notes=tuple(notes), tokens=tokens)


def _tokens(options: Options, train: Lines) -> Tokens:
    wanted = options.mapping_if("tokenizer")
    if wanted is not None:
        size = Options(wanted, known=("vocabulary",), owner="`tokenizer:`").whole("vocabulary")
        if size is None:
            raise RecipeError("`tokenizer: {vocabulary: …}` needs the number of tokens.")
        return Tokens(train_tokenizer([*train[0], *train[1]], size=size))
    folder = options.text("tokenizer")
    if folder is None:
        raise RecipeError(
            "Pairs of texts need a tokenizer: give `data.tokenizer`, a folder that holds one, or "
            "`data.tokenizer: {vocabulary: 6000}` to train one on the training texts."
        )
    return Tokens.load(folder, fetch=options.flag("fetch_tokenizer"))


def _aligned(files: Mapping[str, JSON]) -> tuple[str, dict[str, Lines]]:
    """Two files a part, line by line."""
    checked = Options(files, known=PARTS, owner="`files:`")
    parts: dict[str, Lines] = {}
    for part in files:
        paths = checked.texts(part) or ()
        if len(paths) != 2:
            raise RecipeError(
                f"`files: {{{part}: …}}` must name two files, what is read and what is to be "
                f"written; got {len(paths)}."
            )
        read_from, write_to = (_lines(Path(path).expanduser()) for path in paths)
        if len(read_from) != len(write_to):
            raise DataError(
                f"`{paths[0]}` has {len(read_from)} lines and `{paths[1]}` {len(write_to)}; the "
                "files of a part must be aligned line by line."
            )
        parts[part] = _checked(read_from, write_to, part=part)
    if "train" not in parts:
        raise DataError("`files:` has no training part; name one with `train: [a, b]`.")
    return Path(str((checked.texts("train") or ("",))[0])).name, parts


def _lines(path: Path) -> list[str]:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
                text = file.read()
        else:
            text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(
            f"There is no file `{path}`; check the path (relative to {Path.cwd()})."
        ) from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` cannot be read as UTF-8 text ({error}).") from error
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]


def _columns(options: Options) -> tuple[str, dict[str, Lines]]:
    """Two columns of whatever `datasets` reads."""
    columns = options.texts("columns") or ()
    if len(columns) != 2:
        raise RecipeError(
            "Pairs of texts need `columns: [read, written]` (or two aligned files a part under "
            f"`files:`); got {list(columns)}."
        )
    name, tables = hf.read_tables(options)
    return name, {part: _two_of(table, part, columns) for part, table in tables.items()}


def _two_of(table: Mapping[str, list[object]], part: str, columns: tuple[str, ...]) -> Lines:
    for column in columns:
        if column not in table:
            raise DataError(
                f"The {part} part has no column `{column}`, only "
                f"{', '.join(f'`{c}`' for c in table)}; choose two with `columns:`."
            )
    first, second = (table[column] for column in columns)
    return _checked(first, second, part=part)


def _checked(read_from: Sequence[object], write_to: Sequence[object], *, part: str) -> Lines:
    for row, pair in enumerate(zip(read_from, write_to, strict=True)):
        if not all(isinstance(text, str) and text.strip() for text in pair):
            raise DataError(
                f"Row {row} of the {part} part is {pair!r}; two texts that are not empty are "
                "expected. Fill or drop such rows."
            )
    if not read_from:
        raise DataError(f"The {part} part has no rows; give at least one.")
    return [str(text) for text in read_from], [str(text) for text in write_to]
