"""What is done with a finished run: squeezed, written as files, checked, tried."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from potstill.build import build
from potstill.build.compressing import compression_of, is_run, recipe_of_run
from potstill.build.leaving import export_student
from potstill.build.trying import unexported
from potstill.data import DataSet
from potstill.export.formats import Bound
from potstill.export.manifest import Artefact
from potstill.export.sound import check_sound
from potstill.pipeline import Pipeline, Run
from potstill.pipeline.compression import Compression, compress_experiment
from potstill.recipe import Recipe, load
from potstill.runtime.progress import Progress
from potstill.tryout.answering import Answerer
from potstill.tryout.room import Room
from potstill.tryout.server import TryServer


def compress_run(
    run: Run | Recipe | Path | str,
    *,
    overrides: Sequence[str] = (),
    options: Compression | None = None,
    out: Path | str | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Squeeze the models of a run to one size, in all ways, with and without the teacher.

    Equivalent to `compress_experiment(build(recipe), folder, options)` on a run that is finished; a
    recipe is run first. Called again, it goes on.

    Args:
        run: a finished run or its folder; or a `Recipe`, the name of a shipped one, or a path.
        overrides: `key.path=value`, such as `compress.to=250kB`.
        options: in place of the recipe's `compress`.
        out: of a recipe, the run folder; `runs/<name>` if left out.
        trust: let code that the recipe names run.
        progress: told of what happens.

    Returns:
        The content of `compress.json`, which lies in the run folder beside `compress.md`.

    Raises:
        RecipeError: no way meets the size (said before any training, with the nearest), or the run
            is of a kind that cannot be squeezed.
    """
    given = run.folder if isinstance(run, Run) else run
    if isinstance(given, Recipe) or not is_run(str(given)):
        read = given if isinstance(given, Recipe) else load(str(given), overrides)
        folder = Path(out) if out is not None else Path("runs") / read.name
        Pipeline(build(read, trust=trust), folder, progress=progress).run()
    else:
        folder = Path(given)
        read = recipe_of_run(folder, overrides)
    wanted = options or compression_of(read.compress)
    return compress_experiment(build(read, trust=trust), folder, wanted, progress=progress)


def export_run(
    run: Run | Path | str,
    formats: Sequence[str] | None = None,
    *,
    role: str = "distilled",
    seed: int | None = None,
    out: Path | str | None = None,
    data: DataSet | None = None,
    student: nn.Module | None = None,
    bounds: Mapping[str, Bound] | None = None,
    trust: bool = False,
) -> Path:
    """Write a student of a finished run in further forms, each compared with the student.

    Args:
        run: a run or its folder.
        formats: `onnx`, `onnx-fp16`, `onnx-int8`, `executorch`, `torch`, `safetensors`; the
            recipe's if left out.
        role: whose student: `distilled`, `scratch`, `teacher`.
        seed: which one; the one that the run ships if left out.
        out: a folder; `export` in the run folder if left out.
        data: what the run was trained on; read again as its recipe says if left out.
        student: with its weights, if it was made by your own code, which no file can rebuild.
        bounds: by precision (`float32`, `float16`, `int8`), how far a file may be from the student.
        trust: let code that the recipe names run.

    Returns:
        The folder with the files, `README.md`, `example.py`, `manifest.json` and `parity.json`.

    Raises:
        ExportError: a form cannot be written, or answers otherwise than its bound allows; those
            that can are there all the same.
    """
    return export_student(
        run if isinstance(run, Run) else Run(run),
        formats,
        role=role,
        seed=seed,
        out=None if out is None else Path(out),
        data=data,
        student=student,
        bounds=bounds,
        trust=trust,
    )


def check_export(path: Path | str) -> Artefact:
    """What the manifest says of an exported file, if it is unaltered and its runtime opens it.

    Raises:
        ExportError: it is corrupt, was altered, is unknown to the manifest, or cannot be opened.
    """
    return check_sound(Path(path))


def try_run(
    run: Run | Path | str,
    *,
    port: int = 0,
    exported: bool = False,
    trust: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> TryServer:
    """A page on this machine where teacher and students answer side by side.

    Equivalent to `TryServer(Room(run), port=port)`; `serve()` answers until it is stopped.

    Args:
        run: a finished run, or its folder.
        port: of the page; 0 takes one that is free.
        exported: ask exported files alone; otherwise models that were not exported are built from
            the run's recipe, which needs its data.
        trust: let code that the recipe names run.
        note: told of models that are left out.

    Raises:
        PotstillError: this is no finished run, or there is nothing to ask or to show.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)

    def more(roles: Sequence[str]) -> list[Answerer]:
        return [] if exported else unexported(folder, roles, trust=trust, note=note)

    return TryServer(Room(folder, more=more), port=port)
