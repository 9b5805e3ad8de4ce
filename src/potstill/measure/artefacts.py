"""Which models there are to measure: files by name, or all that a run left behind."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError, ExportError, RecipeError, StorageError
from potstill.measure.latency import open_session
from potstill.measure.runners import ONNX, TORCH, runtime_of
from potstill.runtime.texts import MASK

SAMPLES, RESULTS = "samples.npz", "results.json"
ROLES = ("teacher", "scratch", "distilled")


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A model as it is shipped.

    Args:
        name: what it is called beside the others.
        path: a file, or of torch a folder.
        runtime: what runs it.
        run: the folder of the run that it is from, if it is from one.
    """

    name: str
    path: Path
    runtime: str
    run: Path | None = None

    @property
    def files(self) -> list[Path]:
        """What belongs to it: the file and weights that lie beside it."""
        if self.path.is_dir():
            return [self.path / "model.safetensors"]
        beside = self.path.with_name(f"{self.path.name}.data")
        return [self.path, *([beside] if beside.is_file() else [])]

    @property
    def bytes(self) -> int:
        """On the disk."""
        return sum(file.stat().st_size for file in self.files)

    def digest(self) -> str:
        """SHA-256 of its files: how a model is known on another machine."""
        found = hashlib.sha256()
        for file in self.files:
            found.update(file.read_bytes())
        return found.hexdigest()


def find_artefacts(given: Sequence[Path], runtimes: Sequence[str]) -> list[Artefact]:
    """The models of runs and files, in the order given, each with a name of its own.

    Of a run they are what lies in `export/`, and with the runtime `torch` the shipped weights.

    Args:
        given: run folders, `.onnx` and `.pte` files, folders with `model.safetensors`.
        runtimes: models of others are left out.

    Raises:
        StorageError: one is not there.
        ExportError: one is no model, or none is left.
        RecipeError: nothing was given.
    """
    if not given:
        raise RecipeError("No model was given to measure. Name a run folder or a file.")
    found: list[Artefact] = []
    for path in given:
        if not path.exists():
            raise StorageError(
                f"There is no {path}. Give a run folder, an .onnx or a .pte file, or a folder "
                "with model.safetensors."
            )
        found += _of_run(path) if _is_run(path) else [_of_file(path)]
    kept = [each for each in found if each.runtime in runtimes]
    if not kept:
        raise ExportError(
            f"There is nothing to measure on {', '.join(runtimes)} in "
            f"{', '.join(map(str, given))}: found "
            f"{', '.join(sorted({each.runtime for each in found})) or 'no model'}. "
            "Choose another --runtime, or export the models first."
        )
    return _named_apart(kept)


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in (RESULTS, "stages.json"))


def _of_run(run: Path) -> list[Artefact]:
    """Teacher, scratch, distilled, and what was made of them, each role's files together."""
    files = [*run.glob("export/*.onnx"), *run.glob("export/*.pte")]
    files = [path for path in files if _role(path.stem) is not None]
    order = sorted(files, key=lambda path: (ROLES.index(_role(path.stem) or ""), path.stem))
    found = [Artefact(name=p.stem, path=p, runtime=runtime_of(p), run=run) for p in order]
    return found + [
        Artefact(name=role, path=folder, runtime=TORCH, run=run)
        for role in ROLES
        if (folder := _weights(run, role)) is not None
    ]


def _role(stem: str) -> str | None:
    """Whose a file is; nothing for parts of models and for those that hear a chunk at a time."""
    role, _, rest = stem.partition("-")
    known = role in ROLES and not rest.startswith(("streaming", "encoder", "decoder", "onnx"))
    return role if known else None


def _weights(run: Path, role: str) -> Path | None:
    results = run / RESULTS
    if not results.is_file():
        return None
    try:
        seed = json.loads(results.read_text(encoding="utf-8"))["models"][role].get("shipped_seed")
    except (ValueError, KeyError, AttributeError):
        return None
    folder = run / "models" / role / f"seed-{seed or 0}"
    return folder if (folder / "model.safetensors").is_file() else None


def _of_file(path: Path) -> Artefact:
    parents = [parent for parent in path.resolve().parents if _is_run(parent)]
    name = path.stem if path.is_file() else f"{path.parent.name}-{path.name}"
    return Artefact(
        name=name, path=path, runtime=runtime_of(path), run=parents[0] if parents else None
    )


def _named_apart(found: list[Artefact]) -> list[Artefact]:
    """The same, with the run's or folder's name before names that occur twice on a runtime."""
    keys = [(each.name, each.runtime) for each in found]
    made = []
    for each, key in zip(found, keys, strict=True):
        name = each.name
        if keys.count(key) > 1:
            where = each.run.resolve().name if each.run else each.path.resolve().parent.name
            name = f"{where}/{name}"
        made.append(Artefact(name=name, path=each.path, runtime=each.runtime, run=each.run))
    return made


def samples_for(
    found: Sequence[Artefact], inputs: Path | None, *, most: int = 64
) -> NDArray[np.generic]:
    """`[N, …]`, what all models are given: test samples of the run, or the array of a file.

    Without either, numbers drawn from a normal distribution in the shape that the first ONNX file
    declares.

    Args:
        found: the models; all take the same input.
        inputs: an `.npz` file with the array `inputs` (or its only one), or an `.npy` file.
        most: samples that are kept.

    Raises:
        DataError: the file holds no such array, or nothing says what the models take.
    """
    sizes = _declared(found)
    if inputs is None:
        runs = {each.run for each in found if each.run and (each.run / SAMPLES).is_file()}
        if not runs:
            return _drawn(found, sizes)
        inputs = sorted(runs)[0] / SAMPLES
    rows = as_given(_read(inputs)[:most])
    if sizes is not None and len(sizes) == 1 and rows.ndim == 3 and rows.dtype == np.float32:
        return without_masks(rows)
    return rows


def as_given(rows: NDArray[np.generic]) -> NDArray[np.generic]:
    """Samples as a run keeps them, in the type that models take: float32, or of texts int64."""
    if rows.ndim == 3 and rows.dtype in (np.int32, np.int64):
        return rows.astype(np.int64)
    return rows.astype(np.float32)


def without_masks(planes_N2L: NDArray[np.generic]) -> NDArray[np.generic]:
    """`[N, L]`: sounds as long as the middle one or longer, cut to it."""
    lengths_N = planes_N2L[:, MASK].astype(bool).sum(-1)
    middle = int(np.sort(lengths_N)[len(lengths_N) // 2])
    found: NDArray[np.generic] = planes_N2L[lengths_N >= middle, 0, :middle]
    return found


def _read(path: Path) -> NDArray[np.generic]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        name = "inputs" if "inputs" in content.files else content.files[0]
        return np.asarray(content[name])
    except (OSError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} holds no array of samples ({error}); give an .npy file, or an .npz file with "
            "the array `inputs`."
        ) from error


def _declared(found: Sequence[Artefact]) -> list[object] | None:
    """What the first ONNX file says of one sample's sizes; nothing for texts and other files."""
    first = next((each for each in found if each.runtime == ONNX), None)
    if first is None:
        return None
    given = open_session(first.path, threads=1).get_inputs()
    return list(given[0].shape[1:]) if given[0].type == "tensor(float)" else None


def _drawn(found: Sequence[Artefact], sizes: list[object] | None) -> NDArray[np.generic]:
    whole = [size for size in sizes or [] if isinstance(size, int)]
    if sizes is None or len(whole) != len(sizes):
        raise DataError(
            f"Nothing says what {found[0].path} is given; name a file of samples with --inputs, "
            "or measure it in the folder of its run."
        )
    drawn: NDArray[np.generic] = np.random.default_rng(0).normal(size=(64, *whole))
    return drawn.astype(np.float32)
