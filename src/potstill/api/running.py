"""Teaching and measuring: from objects, or from a recipe."""

from collections.abc import Sequence
from pathlib import Path

from potstill.build import build
from potstill.build.combinations import refuse_strangers
from potstill.build.conditions import counted
from potstill.build.fitted import checked
from potstill.build.given import (
    Array,
    StudentLike,
    TeacherLike,
    chain_of_students,
    default_objective,
    given_teacher,
    growing_source,
    made_student,
    task_of,
)
from potstill.data import DataSet, from_arrays
from potstill.losses.objective import Objective, objective_of
from potstill.models.config import PURPOSES, TAGGING
from potstill.pipeline import Experiment, Learning, Pipeline, Run
from potstill.pipeline.experiment import (
    Correct,
    Sequences,
    Speed,
    Storing,
    Use,
)
from potstill.pipeline.planning import Plan, make_plan
from potstill.protocols import Term
from potstill.recipe import Recipe, load
from potstill.runtime.progress import Progress
from potstill.synthesis import DataFree
from potstill.train import GrowingTeacher, TrainSettings

load_recipe = load


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
