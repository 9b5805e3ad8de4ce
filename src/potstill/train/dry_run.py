"""One batch through student and teacher before anything is trained."""

import torch
from torch import nn

from potstill.errors import HandshakeError, PotstillError
from potstill.protocols import Needs, Task, Teacher
from potstill.signals import Batch, Signals


def dry_run(
    student: nn.Module, teacher: Teacher | None, needs: Needs, task: Task, batch: Batch
) -> tuple[Signals, Signals]:
    """What both say about a batch, without a trace in the student.

    Raises:
        HandshakeError: one of them cannot run.
    """
    return said_by(student, needs, task, batch), taught(teacher, needs, batch)


def said_by(student: nn.Module, needs: Needs, task: Task, batch: Batch) -> Signals:
    """What the student says in eval mode, without gradient."""
    training = [m for m in student.modules() if m.training]
    student.eval()  # batch norm must not see the dry batch
    try:
        with torch.no_grad():
            said = task.forward(student, batch, layers=needs.student_layers)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if isinstance(error, PotstillError):
            raise
        raise HandshakeError(
            f"The student cannot run on inputs {tuple(batch.inputs.shape[1:])}: "
            f"{str(error).splitlines()[0]}. Check the model's input size."
        ) from error
    finally:
        for module in training:
            module.training = True
    return said


def taught(teacher: Teacher | None, needs: Needs, batch: Batch) -> Signals:
    """What the teacher says; nothing if there is none."""
    if teacher is None:
        return Signals()
    try:
        return teacher.signals(batch, layers=needs.teacher_layers)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if isinstance(error, PotstillError):
            raise
        raise HandshakeError(
            f"The teacher cannot run on inputs {tuple(batch.inputs.shape[1:])}: "
            f"{str(error).splitlines()[0]}. Check that it was made for such data."
        ) from error
