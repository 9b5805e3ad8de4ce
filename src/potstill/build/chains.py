"""What stands between teacher and student, and teachers that grow with the student."""

from functools import partial

from torch import nn

from potstill.build.conditions import counted
from potstill.build.learning import build_objective, learning_of
from potstill.build.models import config_of, made_model
from potstill.build.weighing import weighed
from potstill.data import DataSet
from potstill.errors import RecipeError
from potstill.losses import Objective
from potstill.pipeline.experiment import Chain, GrowingSource, Learning, Link, MadeModel
from potstill.protocols import Task
from potstill.recipe import AssistantSpec, Recipe, TeacherSpec
from potstill.train import MeanTeacher, Peers

FIRST_SEED = 1001  # of links: none of the students'
_PEER_SEEDS = 5003
_OF_MODELS = (
    "train", "label_map", "tokenizer", "markers", "route", "combine", "weights", "confidence",
    "width", "calibrate",
)  # fmt: skip
"""Keys of `teacher` that say something of models that are there before the student."""


def chain_of(
    recipe: Recipe,
    data: DataSet,
    task: Task,
    *,
    student: MadeModel,
    learning: Learning,
    objective: Objective,
    trust: bool,
) -> Chain | None:
    """The links that a recipe names: assistants, or generations of the student.

    Raises:
        RecipeError: for a task whose students learn what the teacher writes, or are embeddings.
    """
    spec = recipe.chain
    if spec is None:
        return None
    if recipe.task in ("embedding", "seq2seq") or recipe.distill.on_policy is not None:
        raise RecipeError(
            f"`chain` is not built for `task: {recipe.task}`"
            f"{' with `distill.on_policy`' if recipe.distill.on_policy else ''} yet; leave it out."
        )
    if student.cut is not None or recipe.student.head == "teacher":
        raise RecipeError(
            "A `chain` changes whom the student learns from, and this student is made of the "
            "teacher itself; leave `chain` out, or `student.model.trained` and `student.head`."
        )
    usual = partial(Link, learning=learning, objective=objective)
    if spec.generations is not None:
        links = [
            usual(role=f"generation-{n}", model=student, seed=FIRST_SEED + n)
            for n in range(1, spec.generations)
        ]
    else:
        links = [
            _assistant(each, n, recipe, data, task, usual=usual, trust=trust)
            for n, each in enumerate(spec.assistants, start=1)
        ]
    return Chain(links=tuple(links), direct=spec.direct, together=spec.together)


def _assistant(
    spec: AssistantSpec,
    number: int,
    recipe: Recipe,
    data: DataSet,
    task: Task,
    *,
    usual: "partial[Link]",
    trust: bool,
) -> Link:
    assert recipe.chain is not None
    alone = len(recipe.chain.assistants) == 1
    model = made_model(config_of(spec.model, data, recipe.task), trust=trust)
    role = "assistant" if alone else f"assistant-{number}"
    own: dict[str, object] = {}
    if spec.distill is not None:
        own["learning"] = learning_of(spec.distill)
        if spec.distill.objective is not None:
            told = counted(build_objective(spec.distill.objective), data)
            own["objective"] = weighed(told, task)
    return usual(role=role, model=model, seed=FIRST_SEED + number, **own)


def growing_of(
    recipe: Recipe, data: DataSet, task: Task, *, student: MadeModel, trust: bool
) -> GrowingSource:
    """The student's average, or its peers.

    Raises:
        RecipeError: with test-time augmentation, which asks a trained teacher.
    """
    spec = recipe.teacher
    if spec.tta is not None or recipe.distill.sequences is not None or task.truth_from_teacher:
        raise RecipeError(
            "`teacher.average` and `teacher.peers` grow with the student: leave `teacher.tta` and "
            "`distill.sequences` out, and take a task with labels."
        )
    usual = TeacherSpec()
    beside = [key for key in _OF_MODELS if getattr(spec, key) != getattr(usual, key)]
    if beside:
        raise RecipeError(
            f"`teacher.{beside[0]}` is for teachers that are models, and `teacher."
            f"{'average' if spec.average else 'peers'}` grows with the student; leave it out."
        )
    if spec.average is not None:
        decay, ramp = spec.average.decay, spec.average.ramp
        return GrowingSource(
            make=lambda _seed: MeanTeacher(decay=decay, ramp=ramp),
            kept={"teacher": student},
            name=f"average of {student.name}",
            description=f"moving average of the student's own weights, decay {decay:g}",
        )
    made = {
        f"peer-{n}": made_model(config_of(peer.model, data, recipe.task), trust=trust)
        for n, peer in enumerate(spec.peers, start=1)
    }
    names = ", ".join(model.description for model in made.values())
    return GrowingSource(
        make=lambda seed: _peers(made, seed),
        kept=made,
        name="peer" if len(made) == 1 else f"{len(made)} peers",
        description=f"learns beside the student: {names}",
    )


def _peers(made: dict[str, MadeModel], seed: int) -> Peers:
    def maker(model: MadeModel, number: int) -> nn.Module:
        return model.make(_PEER_SEEDS * number + seed)

    return Peers(
        {name: partial(maker, model, n) for n, (name, model) in enumerate(made.items(), start=1)},
        key=" ".join(f"{name} {model.key}" for name, model in made.items()),
        seed=seed,
    )
