"""A student that ships with its teacher's classifier (SimKD)."""

from dataclasses import replace

from potstill.build.models import made_model
from potstill.errors import RecipeError
from potstill.models import last_linear, reused_config
from potstill.pipeline.experiment import GivenTeacher, MadeModel, TeacherSource, TrainedTeacher

_SOURCES = ("builtin", "timm", "torchvision", "python")


def with_teachers_head(
    student: MadeModel, teacher: TeacherSource, *, trust: bool = False
) -> MadeModel:
    """The student with a projector and a place for the teacher's classifier.

    Raises:
        RecipeError: the teacher is not one torch model with the student's classes.
    """
    _check_source(student)
    module = None
    if isinstance(teacher, TrainedTeacher) and teacher.label_map is None:
        module = teacher.model.make(0)
    elif isinstance(teacher, GivenTeacher):
        module = teacher.module
    if module is None:
        raise RecipeError(
            "`student.head: teacher` takes the classifier of one torch model with the student's "
            "classes; give `teacher.model` without `label_map`, or leave `student.head` out."
        )
    assert student.config is not None, "checked above"
    config = reused_config(student.config, width=last_linear(module).in_features)
    made = made_model(config, trust=trust)
    added = getattr(made.make(0), "added_parameters", 0)
    described = f"{student.description}, with the teacher's classifier ({added:+,} parameters)"
    return replace(made, description=described)


def _check_source(student: MadeModel) -> None:
    source = "" if student.config is None else student.config.source
    if source not in _SOURCES:
        raise RecipeError(
            f"`student.head: teacher` is for models of images, signals and tables of source "
            f"{', '.join(_SOURCES)}; this student is of source {source or 'none'}."
        )
