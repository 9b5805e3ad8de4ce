"""The verbs. Each builds objects and calls one of them; none has behaviour of its own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from potstill.build import build
from potstill.build.combinations import refuse_strangers
from potstill.build.compressing import compression_of, is_run, recipe_of_run
from potstill.build.conditions import counted
from potstill.build.fitted import checked
from potstill.build.given import (
    StudentLike,
    TeacherLike,
    chain_of_students,
    default_objective,
    given_teacher,
    growing_source,
    made_student,
    task_of,
)
from potstill.build.leaving import export_student
from potstill.build.searching import search_of
from potstill.build.trying import unexported
from potstill.build.workers import work_together
from potstill.data import Augment, DataSet, Feed, from_arrays
from potstill.errors import RecipeError
from potstill.export.formats import Bound
from potstill.export.manifest import Artefact
from potstill.export.sound import check_sound
from potstill.losses.objective import Objective, objective_of
from potstill.models.config import PURPOSES, TAGGING
from potstill.pipeline import Experiment, Learning, Pipeline, Run
from potstill.pipeline.compression import Compression, compress_experiment
from potstill.pipeline.concluding import Found, conclude
from potstill.pipeline.experiment import (
    Correct,
    Sequences,
    Speed,
    Storing,
    Use,
)
from potstill.pipeline.labelling import ask_experiment, label_experiment
from potstill.pipeline.planning import Plan, make_plan
from potstill.pipeline.search_settings import Settings
from potstill.pipeline.storing import exact, key_of, taught_samples
from potstill.protocols import Term
from potstill.recipe import Recipe, load
from potstill.search.targets import Targets, targets_of
from potstill.store import Store, StoreWriter
from potstill.store import label as write_labels
from potstill.store.codec import Codec
from potstill.store.labelling import FEATURES, LOGITS
from potstill.synthesis import DataFree
from potstill.train import GrowingTeacher, TrainSettings
from potstill.train.progress import Progress
from potstill.tryout.answering import Answerer
from potstill.tryout.room import Room
from potstill.tryout.server import TryServer

load_recipe = load

Array = np.ndarray | Tensor


def distill(
    student: StudentLike,
    teacher: TeacherLike,
    data: DataSet | tuple[Array, Array],
    *,
    objective: Objective | Term | None = None,
    settings: TrainSettings | None = None,
    seeds: int | Sequence[int] = 3,
    speed: Speed | str = Speed.AUTO,
    store: Use | str = Use.AUTO,
    sequences: Sequences | None = None,
    primary: str | None = None,
    correct_bias: Correct | str = Correct.PROPOSE,
    data_free: DataFree | None = None,
    calibrate: bool = False,
    assistants: Sequence[StudentLike] = (),
    out: Path | str = "runs/distilled",
) -> Run:
    """Train `student` with and without `teacher` over several seeds, measure, export, report.

    Equivalent to `Pipeline(Experiment(…), out).run()`. Called again after a kill, it goes on.

    Args:
        student: a function that makes a new module (called under each seed), a module that every
            seed starts from, or a `DecisionTree` or `RuleList` that is fitted.
        teacher: a `Teacher`, a torch module, a fitted estimator, or a function of the inputs. One
            that grows with the student (`potstill.train.MeanTeacher`, `Peers`) as well.
        data: a `DataSet`, or inputs `[N, …]` and labels `[N]`, of which validation and test parts
            are cut.
        objective: what the distilled student minimises; by the task, soft targets at temperature 4
            (0.9) with labels (0.1), their binary form, or the teacher's values with the labels.
        settings: how both students are trained.
        seeds: a number of seeds, or the seeds.
        speed: `auto` computes in the fastest way whose answers stay the same within bounds; `exact`
            gives the weights of the plain PyTorch loop.
        store: `auto` writes the teacher's answers once where that pays; `on`, `off`.
        sequences: of translation, learn on texts that the teacher writes.
        primary: the metric that selects and decides (`balanced_accuracy`, …); by the task if left
            out.
        correct_bias: where students see classes less often than the teacher knows them: `propose` a
            correction of their output biases, `auto` ships it, `off` does not look.
        data_free: distilled students learn on images made from the teacher, and on no others.
        calibrate: divide the teacher's logits by the temperature that suits the validation data.
        assistants: models between teacher and student, each taught by the one before, as the
            student is.
        out: the run folder.

    Raises:
        PotstillError: what does not fit, before any training.
    """
    chosen = data if isinstance(data, DataSet) else from_arrays(*data)
    made, learning = made_student(student, chosen), Learning(settings=settings or TrainSettings())
    task = task_of(chosen, made, primary)
    minimised = (
        default_objective(task) if objective is None else counted(objective_of(objective), chosen)
    )
    growing = isinstance(teacher, GrowingTeacher)
    experiment = Experiment(
        name=Path(out).name,
        task=task,
        data=chosen,
        teacher=growing_source(teacher, made, chosen)
        if growing
        else given_teacher(teacher, chosen, task),
        student=made,
        objective=minimised,
        learning=learning,
        chain=chain_of_students(assistants, learning, minimised, chosen),
        seeds=tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds),
        export=("hf",) if task.name in PURPOSES - {TAGGING} or task.judged_by else ("onnx",),
        speed=Speed(speed),
        storing=Storing(use=Use(store)),
        sequences=sequences,
        correct_bias=Correct(correct_bias),
        data_free=data_free,
        calibrate=calibrate,
    )
    refuse_strangers(experiment)
    return Pipeline(checked(experiment), Path(out)).run()


def run(
    recipe: Recipe | str,
    *,
    overrides: Sequence[str] = (),
    out: Path | str | None = None,
    trust: bool = False,
    progress: Progress | None = None,
    command: str = "",
    cache: Path | str | None = None,
) -> Run:
    """Do what a recipe says.

    Equivalent to `Pipeline(build(load_recipe(recipe)), out).run()`.

    Args:
        recipe: a `Recipe`, the name of a shipped one, or a path.
        overrides: `key.path=value`, for a name or a path.
        out: the run folder; `runs/<name>` if left out.
        trust: let code that the recipe names run.
        progress: told of what happens.
        command: for the report.
        cache: the file in which measured speeds are remembered for other runs; nowhere if left out.
    """
    read = recipe if isinstance(recipe, Recipe) else load(recipe, overrides)
    folder = Path(out) if out is not None else Path("runs") / read.name
    return Pipeline(
        build(read, trust=trust),
        folder,
        progress=progress,
        command=command,
        cache=None if cache is None else Path(cache),
    ).run()


def plan(recipe: Recipe | str, *, overrides: Sequence[str] = (), trust: bool = False) -> Plan:
    """What a recipe would do and cost, without training anything.

    Equivalent to `make_plan(build(load_recipe(recipe)))`.
    """
    read = recipe if isinstance(recipe, Recipe) else load(recipe, overrides)
    return make_plan(build(read, trust=trust))


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


def search(
    recipe: Recipe | str,
    *,
    overrides: Sequence[str] = (),
    targets: Targets | Mapping[str, str | float | None] | None = None,
    settings: Settings | None = None,
    families: Sequence[str] = (),
    jobs: int = 1,
    join: bool = False,
    out: Path | str | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> Found | None:
    """Find the student that is best at a given cost. Called again, it goes on where it stopped.

    Equivalent to `prepare` and `work` of `search_of(load_recipe(recipe), …)`, then `conclude`.

    Args:
        recipe: a `Recipe`, the name of a shipped one, or a path: teacher, data, and a student to
            start from.
        overrides: `key.path=value`, for a name or a path.
        targets: limits by quantity (`latency_ms`, `bytes`, `parameters`, `flops`, `memory`), as
            numbers or with units (`"5ms"`, `"1MB"`); the first one is the axis of cost. Without
            any, the front of latency is looked for.
        settings: how long and on what.
        families: of students, by name; all that suit the samples if left out.
        jobs: processes that train trials.
        join: only take part in the trials of a search that another process began; gives `None`.
        out: the run folder; `runs/<name>-search` if left out.
        trust: let code that the recipe names run.
        progress: told of what happens.

    Raises:
        RecipeError: no student can meet the target, which is said before anything is trained.
        MissingExtra: Optuna is not installed.
    """
    read = recipe if isinstance(recipe, Recipe) else load(recipe, overrides)
    folder = Path(out) if out is not None else Path("runs") / f"{read.name}-search"
    limits = targets if isinstance(targets, Targets) else targets_of(targets or {})
    chosen = settings or Settings()
    made = search_of(
        read,
        targets=limits,
        settings=chosen,
        only=families,
        trust=trust,
        folder=folder,
        progress=progress,
    )
    made.prepare()
    if jobs > 1 and not join:
        words = made.words() + [f"--family={name}" for name in families]
        work_together(made, jobs=jobs, words=[*words, *(["--trust"] if trust else [])])
    else:
        made.work()
    return None if join else conclude(made)


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
