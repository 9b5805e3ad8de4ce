"""A search from a recipe: what can be chosen, and the recipe that a choice stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from potstill.build.conditions import counted
from potstill.build.experiment import build
from potstill.build.learning import build_objective, learning_of
from potstill.build.models import made_student
from potstill.build.weighing import weighed
from potstill.errors import RecipeError
from potstill.losses import create
from potstill.models import available
from potstill.models.importance import stack_of
from potstill.pipeline.candidates import Candidate, Make
from potstill.pipeline.experiment import Experiment, GivenTeacher, TrainedTeacher, Use
from potstill.pipeline.search_settings import Settings
from potstill.pipeline.searching import Search
from potstill.pipeline.storing import obstacle_to
from potstill.recipe import Recipe, parse
from potstill.runtime.progress import Progress
from potstill.search import (
    FAMILY,
    LR,
    OWN,
    TERMS,
    About,
    Choice,
    Space,
    Targets,
    Value,
    Values,
    families,
    learning_knobs,
    objective,
    of_branch,
    shape,
    terms_choice,
)
from potstill.search.door import optuna

TASKS = ("classification", "keyword", "multi_label", "regression")
_VIEWS = 8  # of augmented samples that are stored, at most
_VALIDATIONS = 6  # of a trial, at least, so that it can be given up
_SIBLINGS = 6


def search_of(
    recipe: Recipe,
    *,
    targets: Targets,
    settings: Settings,
    only: Sequence[str] = (),
    trust: bool = False,
    folder: Path,
    progress: Progress | None = None,
) -> Search:
    """The search for a recipe's student.

    Args:
        recipe: teacher, data, and a student to start from.
        targets: what a student may cost.
        settings: how long and on what.
        only: families, if not all that suit the samples.
        trust: whether code that the recipe names may run.
        folder: the run folder; the recommended recipe is named after it.
        progress: told of what happens.

    Raises:
        PotstillError: the recipe cannot be searched for, or cannot be built.
    """
    optuna()  # which may not be installed
    _check(recipe)
    recipe = _named(_stored(recipe), folder)
    experiment = build(recipe, trust=trust)
    about = _about(experiment, recipe)
    space = _space(recipe, experiment, about, only)
    experiment = _with_store(replace(experiment, recipe=recipe.to_yaml()))
    if experiment.storing.use is Use.ON:  # so that the run afterwards reads the same store
        store = recipe.store.model_copy(update={"use": "on"})
        recipe = recipe.model_copy(update={"store": store})
    return Search(
        experiment,
        _maker(recipe, experiment, about, epochs=settings.epochs, trust=trust),
        space,
        targets=targets,
        first=[_first(recipe, space)],
        settings=settings,
        folder=folder,
        progress=progress,
    )


def recipe_of(recipe: Recipe, values: Values, about: About) -> Recipe:
    """The recipe that values stand for."""
    content = recipe.model_dump(mode="json")
    distill = cast("dict[str, object]", content["distill"])
    distill["lr"] = float(f"{float(values[LR]):.4g}")
    distill["objective"] = objective(
        values, cast("list[Mapping[str, object]]", distill["objective"])
    )
    family = str(values[FAMILY])
    if family != OWN:
        content["student"] = {"model": shape(family, of_branch(values, family), about)}
    return parse(content, origin="the recipe of this trial")


def _maker(
    recipe: Recipe, experiment: Experiment, about: About, *, epochs: int | None, trust: bool
) -> Make:
    data, task = experiment.data, experiment.task

    def make(values: Values) -> Candidate:
        made = recipe_of(recipe, values, about)
        learning = learning_of(made.distill)
        length = epochs or made.distill.epochs
        often = min(made.distill.validate_every, max(1, length // _VALIDATIONS))
        return Candidate(
            model=made_student(made, data, trust=trust),
            learning=replace(
                learning,
                settings=replace(learning.settings, epochs=length, validate_every=often),
            ),
            objective=weighed(counted(build_objective(made.distill.objective), data), task),
            recipe=made.to_yaml(short=True),
        )

    return make


def _check(recipe: Recipe) -> None:
    """Refuse what no search can go through, before anything is read."""
    if recipe.task not in TASKS:
        raise RecipeError(
            f"`potstill search` designs students of {', '.join(TASKS)}, and this recipe's task is "
            f"{recipe.task}; compare some sizes of its student with `potstill run` instead."
        )
    wrong = {
        "chain": recipe.chain is not None,
        "teacher.average": recipe.teacher.average is not None,
        "teacher.peers": bool(recipe.teacher.peers),
        "distill.data_free": recipe.distill.data_free is not None,
        "distill.curriculum": recipe.distill.curriculum is not None,
        "student.head": recipe.student.head != "own",
    }
    found = [f"`{key}`" for key, given in wrong.items() if given]
    if recipe.student.model.source == "sklearn":
        found.append("a student that is fitted (source sklearn)")
    if found:
        raise RecipeError(
            f"A search trains many students on one teacher's answers, and {' and '.join(found)} "
            "has no place in it; leave that out, and put it back into the recommended recipe."
        )


def _stored(recipe: Recipe) -> Recipe:
    """With a number of views where samples are augmented, so that answers can be stored."""
    if not recipe.distill.augment or recipe.store.views is not None or recipe.store.use == "off":
        return recipe
    views = min(_VIEWS, recipe.distill.epochs)
    store = recipe.store.model_copy(update={"views": views})
    return recipe.model_copy(update={"store": store})


def _named(recipe: Recipe, folder: Path) -> Recipe:
    """Named as the folder is, so that `potstill run` of what is recommended finds the teacher."""
    same = folder.name == recipe.name
    return recipe if same else recipe.model_copy(update={"name": folder.name})


def _with_store(experiment: Experiment) -> Experiment:
    """With a store wherever one can serve: every trial reads it."""
    storing = experiment.storing
    teacher = experiment.teacher
    if storing.use is Use.OFF or not isinstance(teacher, TrainedTeacher | GivenTeacher):
        return experiment
    if isinstance(teacher, GivenTeacher) and obstacle_to(experiment, teacher.teacher):
        return experiment
    if experiment.learning.mix is not None:
        return experiment
    return replace(experiment, storing=replace(storing, use=Use.ON))


def _space(recipe: Recipe, experiment: Experiment, about: About, only: Sequence[str]) -> Space:
    temperature = next(
        (
            value
            for term in recipe.distill.objective
            if isinstance(value := term.options.get("temperature"), int | float)
        ),
        None,
    )
    terms = terms_choice(recipe.task, temperature=temperature)
    outputs = experiment.data.num_outputs
    fitting = {name: k for name, k in terms.branches.items() if _min_classes(name) <= outputs}
    terms = Choice(name=TERMS, branches=fitting)
    needs = experiment.objective.needs()
    if needs.teacher_layers or needs.student_layers:
        branches = {name: knobs for name, knobs in terms.branches.items() if name != OWN}
        if not branches:
            raise RecipeError(
                "This recipe's objective compares layers, which other students do not have; give "
                "one of logits alone for the search."
            )
        terms = Choice(name=TERMS, branches=branches)
    return Space(
        choices=(families(about, only=only), terms), knobs=learning_knobs(recipe.distill.lr)
    )


def _min_classes(name: str) -> int:
    """How many classes a term needs; over two, some say nothing."""
    return 0 if name == OWN else create(name, {}).needs().min_classes


def _first(recipe: Recipe, space: Space) -> dict[str, Value]:
    """The recipe as it stands, as far as the space can say it."""
    terms = next(c for c in space.choices if c.name == TERMS)
    branch = next(iter(terms.branches))
    middle = {f"{branch}.{knob.name}": knob.smallest for knob in terms.branches[branch]}
    return {FAMILY: OWN, TERMS: branch, **middle, LR: recipe.distill.lr}


def _about(experiment: Experiment, recipe: Recipe) -> About:
    """What decides which families there are."""
    spec, data = recipe.teacher.model, experiment.data
    about = About(kind=data.kind.value, input_shape=data.input_shape)
    if spec is None:
        return about
    options = {**recipe.student.model.options, **spec.options}
    about = replace(about, teacher=(spec.source, spec.name), options=options)
    if data.tokens is not None and spec.source == "hf":
        return replace(about, layers=_layers(experiment))
    if spec.source in ("torchvision", "timm"):
        return replace(about, siblings=_siblings(spec.source, spec.name))
    return about


def _layers(experiment: Experiment) -> int:
    teacher = experiment.teacher
    if isinstance(teacher, TrainedTeacher):
        return len(stack_of(teacher.model.make(0)))  # type: ignore[arg-type]
    module = teacher.module if isinstance(teacher, GivenTeacher) else None
    return 0 if module is None else len(stack_of(module))  # type: ignore[arg-type]


def _siblings(source: str, name: str) -> tuple[str, ...]:
    """Other models of the teacher's family, by the letters that their names begin with."""
    letters = name[: next((i for i, c in enumerate(name) if not c.isalpha()), len(name))]
    same = [each for each in available(source) if each.startswith(letters) and each != name]
    return tuple(sorted(same, key=lambda each: (len(each), each))[:_SIBLINGS])
