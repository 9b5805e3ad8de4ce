"""A teacher's answers, written before anything is trained."""

from collections.abc import Sequence
from pathlib import Path

import torch

from potstill.build import build
from potstill.build.given import (
    Array,
    TeacherLike,
    given_teacher,
    task_of,
)
from potstill.data import Augment, DataSet, Feed, from_arrays
from potstill.errors import RecipeError
from potstill.pipeline.labelling import ask_experiment, label_experiment
from potstill.pipeline.storing import exact, key_of, taught_samples
from potstill.recipe import Recipe, load
from potstill.runtime.progress import Progress
from potstill.store import Store, StoreWriter
from potstill.store import label as write_labels
from potstill.store.codec import Codec
from potstill.store.labelling import FEATURES, LOGITS


def label(
    teacher: TeacherLike,
    data: DataSet | tuple[Array, Array],
    *,
    out: Path | str = "store",
    layers: Sequence[str] = (),
    augment: Augment | None = None,
    views: int | None = None,
    codec: Codec | None = None,
    features: Codec | None = None,
    batch_size: int = 128,
    device: str = "cpu",
) -> Store:
    """Store what a teacher says about the training and transfer samples; called again, it goes on.

    Equivalent to `store.label(teacher, feed, StoreWriter(out, …), views=views)`. Students learn
    from it with `StoredTeacher(out)`.

    Args:
        teacher: as for `distill`.
        data: a `DataSet`, or inputs `[N, …]` and labels `[N]`, cut as `distill` cuts them.
        out: a folder, or an address that fsspec opens.
        layers: whose outputs are stored beside the logits.
        augment: what views of samples are; with `views`, how many of each.
        views: see `augment`; samples as they are if left out.
        codec: of logits; exact float32 if left out.
        features: of `layers`; exact float32 if left out.
        batch_size: samples the teacher is asked about at once.
        device: where it answers.

    Raises:
        StoreError: the store is of another teacher, other data or another augmentation.
        RecipeError: `augment` without `views`, or the other way round.
    """
    if (augment is None) != (views is None):
        raise RecipeError("`augment` and `views` go together: give both, or neither of them.")
    chosen = data if isinstance(data, DataSet) else from_arrays(*data)
    task = task_of(chosen, None)
    source = given_teacher(teacher, chosen, task).teacher
    samples = taught_samples(chosen)
    feed = Feed(
        samples=samples,
        batch_size=min(batch_size, len(samples)),
        seed=0,
        normalise=chosen.normalise,
        augment=augment,
        views=views,
        device=device,
        shuffle=False,
        keep_raw=source.reads_raw,
    )
    codecs: dict[str, Codec] = {}
    if source.offers().logits is not None:
        codecs[LOGITS] = codec or exact(LOGITS)
    for layer in layers:
        codecs[FEATURES + layer] = features or exact(FEATURES + layer)
    source.to(torch.device(device))
    key = key_of(source, feed)
    with StoreWriter(out, key=key, codecs=codecs) as writer:
        write_labels(
            source,
            feed,
            writer,
            views=views or 1,
            samples_of=lambda batch: task.target(batch).samples,
        )
    return Store(out)


def label_recipe(
    recipe: Recipe | str,
    *,
    overrides: Sequence[str] = (),
    out: Path | str | None = None,
    layers: Sequence[str] | None = None,
    run: Path | str | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Store what a recipe's teacher says, trained first if need be; `run` finds both done.

    Equivalent to `label_experiment(build(load_recipe(recipe)), run, where=out)`.

    Args:
        recipe: a `Recipe`, the name of a shipped one, or a path.
        overrides: `key.path=value`, for a name or a path.
        out: the store; the recipe's `store.path`, or `store` in the run folder, if left out.
        layers: whose outputs are stored; those that the objective needs if left out.
        run: the run folder; `runs/<name>` if left out.
        trust: let code that the recipe names run.
        progress: told of what happens.
    """
    read = recipe if isinstance(recipe, Recipe) else load(recipe, overrides)
    folder = Path(run) if run is not None else Path("runs") / read.name
    where = None if out is None else str(out)
    experiment = build(read, trust=trust)
    return label_experiment(experiment, folder, where=where, layers=layers, progress=progress)


def ask_recipe(
    recipe: Recipe | str,
    *,
    overrides: Sequence[str] = (),
    run: Path | str | None = None,
    progress: Progress | None = None,
) -> tuple[Path, int]:
    """Ask a recipe's teacher behind a server about all that it will teach; `run` finds it done.

    Equivalent to `ask_experiment(build(load_recipe(recipe)), run)`.

    Args:
        recipe: a `Recipe`, the name of a shipped one, or a path.
        overrides: `key.path=value`, for a name or a path.
        run: the run folder; `runs/<name>` if left out.
        progress: told of what happens.

    Returns:
        The file of answers, and how many texts were asked about now.
    """
    read = recipe if isinstance(recipe, Recipe) else load(recipe, overrides)
    folder = Path(run) if run is not None else Path("runs") / read.name
    return ask_experiment(build(read), folder, progress=progress)
