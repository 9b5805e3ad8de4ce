"""Everything that the `datasets` library reads: hub ids, csv, json, parquet, image folders.

Local data are read without network; only a hub id makes a request.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.data.assembly import PARTS, Raw
from potstill.data.language import OPTIONS as LANGUAGE_OPTIONS
from potstill.data.options import JSON, Options, nearest
from potstill.data.sources.columns import read_parts
from potstill.data.sources.request import Request
from potstill.data.sources.tables import OPTIONS as TABLE_OPTIONS
from potstill.data.sources.texts import OPTIONS as TEXT_OPTIONS
from potstill.errors import DataError, PotstillError, RecipeError, need

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

OPTIONS = frozenset(
    {"path", "files", "config", "revision", "splits", "inputs", "leave_out", "label", "group"}
    | {"separator", "headerless", "columns", "channels"}
    | TABLE_OPTIONS
    | TEXT_OPTIONS
    | LANGUAGE_OPTIONS
)
FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
}
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_SPLITS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
    "transfer": ("transfer", "unsupervised", "unlabelled", "unlabeled"),
}


def read(request: Request) -> Raw:
    """One of two ways to say where the data are, and what is what in them.

    - `path:` a hub id (`ylecun/mnist`, with `config:` and `revision:`), a csv, tsv, json, jsonl or
      parquet file (also with .gz), a folder of such files or of images (one folder a class), or
      what `save_to_disk` wrote. `splits: {test: validation}` renames splits.
    - `files: {train: a.csv, test: b.csv}`.

    `inputs:` names the column(s) of inputs (default: the image column, or all but the label and
    those that `leave_out:` names),
    `label:` that of labels (default: `label`, `target`, `class`, `y`, or the only one of classes),
    `group:` that of the domain, site or speaker of each row, for figures by group,
    `separator:` that of a csv file, `headerless: true` if its columns have no names (then they are
    called 0, 1, …, or as `columns: [...]` says), `channels:` 1 or 3 for images. Of tables,
    `categorical: [...]` names columns of numbers that are codes, `missing: impute` takes cells
    without a value, and `missing_values:` says what stands for them ([?, NA], or by column:
    {insulin: 0}). With `kind: text` one or two columns of texts
    are read with `tokenizer:` (a folder, or a hub id with `fetch_tokenizer: true`) and cut after
    `max_length:` tokens.

    Raises:
        MissingExtra: `datasets` is not installed.
        DataError: nothing there, or columns that cannot be used.
    """
    need("datasets", extra="data")
    options = request.options
    path, files = options.text("path"), options.mapping("files")
    if (path is None) == (not files):
        raise RecipeError("Data source `hf` needs either `path:` or `files: {train: ...}`.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache, _quietly():
        if path is None:
            name, loaded = "files", _from_files(files, options, cache=cache)
        else:
            name, loaded = Path(path).name, _from_path(path, options, cache=cache)
        parts = _named_parts(loaded, options.mapping("splits"))
        return read_parts(parts, request=request, name=name)


def read_tables(options: Options) -> tuple[str, dict[str, dict[str, list[object]]]]:
    """The parts that `path:` or `files:` name, column by column, and a name for all.

    Columns within columns are called with a dot.
    """
    need("datasets", extra="data")
    path, files = options.text("path"), options.mapping("files")
    if (path is None) == (not files):
        raise RecipeError("The data need either `path:` or `files: {train: ...}`.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache, _quietly():
        if path is None:
            name, loaded = "files", _from_files(files, options, cache=cache)
        else:
            name, loaded = Path(path).name, _from_path(path, options, cache=cache)
        parts = _named_parts(loaded, options.mapping("splits"))
        tables = {
            part: dataset.flatten().with_format("arrow")[:] for part, dataset in parts.items()
        }
        return name, {part: table.to_pydict() for part, table in tables.items()}


def open_parts(path: str, options: Options, *, form: str) -> tuple[str, dict[str, "Dataset"]]:
    """The parts of a hub id, or of a folder that is read as `form`, and a name for all."""
    datasets, folder = need("datasets", extra="data"), Path(path).expanduser()
    with _quietly():
        if not folder.is_dir():
            loaded = _from_path(path, options, cache="")
        elif any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            loaded = _from_folder(folder, options, cache="")
        else:
            with _explained(path):
                loaded = datasets.load_dataset(form, data_dir=str(folder))
        return folder.name, _named_parts(loaded, options.mapping("splits"))


def _from_path(path: str, options: Options, *, cache: str) -> "DatasetDict":
    """All splits of a hub id, a file or a folder."""
    local = Path(path).expanduser()
    if local.is_file():
        return _from_files({"train": path}, options, cache=cache)
    if local.is_dir():
        return _from_folder(local, options, cache=cache)
    if _suffix(local) in {*FORMATS, ".npz", *IMAGES} or path[:1] in "./~":
        raise DataError(f"There is no file `{path}`; check `path:` (relative to {Path.cwd()}).")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
        raise DataError(f"`path: {path}` is neither a file or folder here nor a hub id; check it.")
    with _explained(path):
        return need("datasets", extra="data").load_dataset(
            path, options.text("config"), revision=options.text("revision")
        )


def _from_folder(folder: Path, options: Options, *, cache: str) -> "DatasetDict":
    """A folder that `save_to_disk` wrote, or one of images, csv, json or parquet files."""
    datasets = need("datasets", extra="data")
    if (folder / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(folder))
    if (folder / "state.json").is_file():
        return datasets.DatasetDict(train=datasets.load_from_disk(str(folder)))
    form = _folder_format(folder)
    with _explained(str(folder)):
        return datasets.load_dataset(
            form, data_dir=str(folder), cache_dir=cache, **_reading(form, options, suffix=".csv")
        )


def _from_files(files: Mapping[str, JSON], options: Options, *, cache: str) -> "DatasetDict":
    """Files by part, all of one format."""
    checked = Options(files, known=PARTS, owner="`files:`")
    paths = {part: Path(checked.required(part, why="a file")).expanduser() for part in files}
    formats = {_file_format(path) for path in paths.values()}
    if len(formats) > 1:
        listed = " and ".join(sorted(formats))
        raise DataError(f"`files:` mixes {listed}; give files of one format.")
    (form,) = formats
    first = next(iter(paths.values()))
    with _explained(str(first)):
        return need("datasets", extra="data").load_dataset(
            form,
            data_files={part: str(path) for part, path in paths.items()},
            cache_dir=cache,
            **_reading(form, options, suffix=_suffix(first)),
        )


def _reading(form: str, options: Options, *, suffix: str) -> dict[str, str | list[str] | None]:
    """What the csv reader is told besides the files; other readers take nothing."""
    separator, headerless = options.text("separator"), options.flag("headerless")
    if form == "csv":
        told: dict[str, str | list[str] | None] = {
            "sep": separator or ("\t" if suffix == ".tsv" else ",")
        }
        names = options.texts("columns")
        if names is not None and not headerless:
            raise RecipeError(
                "`columns:` names the columns of a csv file without a head; add `headerless: "
                "true`, or leave it out."
            )
        if names is not None:
            return {**told, "header": None, "names": list(names)}
        return {**told, "header": None} if headerless else told
    if separator is not None or headerless:
        key = "headerless" if headerless else "separator"
        raise RecipeError(f"`{key}:` is for csv files, and these are {form}; leave it out.")
    return {}


def _file_format(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"There is no file `{path}`; check the path (relative to {Path.cwd()}).")
    suffix = _suffix(path)
    if suffix not in FORMATS:
        raise DataError(
            f"`{path}` is none of {', '.join(FORMATS)}; convert it, or use data source `npz` for "
            "NumPy archives."
        )
    return FORMATS[suffix]


def _suffix(path: Path) -> str:
    """What the file is, under a compression by gzip if there is one."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _folder_format(folder: Path) -> str:
    """By the first file of a known kind, in order of names."""
    for path in sorted(folder.rglob("*")):
        suffix = _suffix(path)
        if suffix in IMAGES:
            return "imagefolder"
        if suffix in FORMATS:
            return FORMATS[suffix]
    raise DataError(
        f"Folder `{folder}` holds no image and no {', '.join(FORMATS)} file; check `path:`."
    )


def _named_parts(loaded: "DatasetDict", splits: Mapping[str, JSON]) -> dict[str, "Dataset"]:
    """Which split is which part: as told, else by name; a split is used once."""
    told = Options(splits, known=PARTS, owner="`splits:`")
    chosen = {part: name for part in splits if (name := told.text(part)) is not None}
    for part, name in chosen.items():
        if name not in loaded:
            raise DataError(
                f"There is no split `{name}` for the {part} part; {nearest(name, loaded)}"
            )
    for part, names in _SPLITS.items():
        if part not in splits:
            free = (n for n in names if n in loaded and n not in chosen.values())
            if (found := next(free, None)) is not None:
                chosen[part] = found
    if "train" not in chosen and len(loaded) == 1:
        chosen = {"train": next(iter(loaded))}
    if "train" not in chosen:
        raise DataError(
            f"No split is called `train`, only {', '.join(f'`{n}`' for n in loaded)}; say which "
            "one to learn from with `splits: {train: ...}`."
        )
    return {part: loaded[name] for part, name in chosen.items()}


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn what the reading libraries raise into one sentence."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, PotstillError):
            raise
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise DataError(
            f"`{place}` cannot be read ({reason}); check the file, or for a hub id its spelling, "
            "`config:` and the network."
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep `datasets` from drawing bars and logging; its settings are put back afterwards."""
    from datasets.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    verbosity, had_bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            enable_progress_bars()
