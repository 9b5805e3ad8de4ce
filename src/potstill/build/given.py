"""What `potstill.distill` and `potstill.label` are given, as the objects of an experiment."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
from torch import Tensor, nn

from potstill.build.models import made_model
from potstill.data import DataSet, Kind
from potstill.errors import HandshakeError, RecipeError
from potstill.losses.objective import Objective
from potstill.models.rule_students import DecisionTree, RuleList, config_of_fitter
from potstill.pipeline import GivenTeacher, Learning, MadeModel
from potstill.pipeline.experiment import Chain, GrowingSource, Link
from potstill.protocols import Task, Teacher
from potstill.runtime.seeds import seeded
from potstill.tasks import (
    CausalLM,
    Classification,
    Detection,
    Dictation,
    Embedding,
    Keyword,
    MultiLabel,
    Regression,
    Seq2Seq,
    Tagging,
    Transcription,
)
from potstill.teachers import EstimatorTeacher, FunctionTeacher, ModuleTeacher, StoredTeacher
from potstill.teachers.estimator import Estimator
from potstill.teachers.fingerprints import module_digest
from potstill.train import GrowingTeacher, Peers

Array = np.ndarray | Tensor
TeacherLike = Teacher | nn.Module | Estimator | Callable[[Tensor], Tensor]
StudentLike = nn.Module | Callable[[], nn.Module] | DecisionTree | RuleList

_TASKS: dict[str, Callable[..., Task]] = {
    "single_label": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "embedding": Embedding,
}


def task_of(data: DataSet, student: MadeModel | None = None, primary: str | None = None) -> Task:
    """The task of a data set.

    Args:
        data: says what is predicted.
        student: of sounds that are written down, says how many frames it answers.
        primary: the metric that decides, if not the usual one.
    """
    decides = {} if primary is None else {"primary": primary}
    if data.kind is Kind.AUDIO:
        return _of_sounds(data, student)
    if data.target_kind.value == "boxes" and not decides:
        return Detection(data.classes or ())
    if data.target_kind.value != "tokens":
        kind = data.target_kind.value
        if decides and kind == "embedding":
            raise RecipeError("Embeddings are scored in one way; leave `primary` out.")
        return _TASKS[kind](**decides)
    if decides:
        raise RecipeError("Models of tokens are scored in one way; leave `primary` out.")
    if data.references is not None:
        return Seq2Seq()
    return CausalLM() if data.classes is None else Tagging(data.classes)


def _of_sounds(data: DataSet, student: MadeModel | None) -> Task:
    if data.tokens is not None:
        return Dictation()
    if data.target_kind.value != "transcript":
        kind = data.target_kind.value
        return Keyword() if kind == "single_label" else _TASKS[kind]()
    rule = None if student is None else getattr(student.make(0), "rule", None)
    if rule is None or student is None:
        name = "Labelling" if student is None else student.name
        raise HandshakeError(
            f"{name} does not say how many frames are answered (`rule`); train a CTC model such as "
            "`ctc_conv`."
        )
    return Transcription(data.classes or (), rule)


def given_teacher(teacher: TeacherLike, data: DataSet, task: Task) -> GivenTeacher:
    """A teacher that is ready, whatever it is."""
    name = type(teacher).__name__
    if isinstance(teacher, StoredTeacher):
        raise HandshakeError(
            "A run asks its teacher about validation and test samples too, and a stored teacher "
            "answers about those it was labelled on alone. Give the live teacher, whose answers "
            "are stored where that pays, or train with `Distiller`."
        )
    if isinstance(teacher, Teacher):
        return GivenTeacher(teacher=teacher, name=name, description=name)
    if isinstance(teacher, nn.Module):
        source = ModuleTeacher(teacher, task)
        return GivenTeacher(teacher=source, name=name, description=name, module=teacher)
    if isinstance(teacher, Estimator):
        fitted = EstimatorTeacher(teacher, kind=task.kind, num_outputs=data.num_outputs)
        return GivenTeacher(teacher=fitted, name=name, description=name)
    label = getattr(teacher, "__name__", name)
    return GivenTeacher(teacher=FunctionTeacher(teacher), name=label, description=label)


def growing_source(teacher: object, student: MadeModel, data: DataSet) -> GrowingSource:
    """A teacher that grows with the student."""
    assert isinstance(teacher, GrowingTeacher), "asked before"
    kept = {"teacher": student}
    if isinstance(teacher, Peers):
        kept = {name: made_student(make, data) for name, make in teacher.models.items()}
    name = type(teacher).__name__

    def make(seed: int) -> GrowingTeacher:
        return teacher.under(seed) if isinstance(teacher, Peers) else deepcopy(teacher)

    return GrowingSource(make=make, kept=kept, name=name, description=name)


def chain_of_students(
    assistants: Sequence[StudentLike], learning: Learning, objective: Objective, data: DataSet
) -> Chain | None:
    """Models between teacher and student, taught in turn."""
    links = [
        Link(
            role="assistant" if len(assistants) == 1 else f"assistant-{number}",
            model=made_student(each, data),
            learning=learning,
            objective=objective,
            seed=1001 + number,
        )
        for number, each in enumerate(assistants, start=1)
    ]
    return Chain(links=tuple(links)) if links else None


def made_student(student: StudentLike, data: DataSet) -> MadeModel:
    """A student and how to make it afresh under a seed."""
    if isinstance(student, DecisionTree | RuleList):
        config = config_of_fitter(
            student, input_shape=data.input_shape, num_outputs=data.num_outputs
        )
        return made_model(config)

    def make(seed: int) -> nn.Module:
        if isinstance(student, nn.Module):
            return deepcopy(student)
        with seeded(seed):
            return student()

    first = make(0)
    name = type(first).__name__
    return MadeModel(make=make, name=name, description=name, key=module_digest(first))


def default_objective(task: Task) -> Objective:
    """What the distilled student minimises if nobody says so, by the task."""
    from potstill.losses import (
        CTC,
        KD,
        BinaryCrossEntropy,
        BinaryKD,
        BoxKD,
        CrossEntropy,
        DetectionLoss,
        EmbeddingCosine,
        Follow,
        FrameKD,
        PlaceKD,
        SimilarityKL,
        SquaredError,
    )

    match task.kind:
        case "multi_label":
            return 0.9 * BinaryKD(temperature=2) + 0.1 * BinaryCrossEntropy()
        case "boxes":
            return DetectionLoss() + 0.5 * PlaceKD() + BoxKD()
        case "transcript":
            return 0.7 * FrameKD(temperature=1) + 0.3 * CTC()
        case "tokens":
            return 0.9 * KD(temperature=1) + 0.1 * CrossEntropy()
        case "embedding":
            return EmbeddingCosine() + SimilarityKL()
        case "regression":
            teacher = SquaredError(follow=Follow.TEACHER)
            return 0.5 * teacher + 0.5 * SquaredError()
        case _:
            return 0.9 * KD(temperature=4) + 0.1 * CrossEntropy()
