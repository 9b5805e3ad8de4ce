"""The module that is wrapped for training: the student, its projectors and the loss of a batch.

The loss is computed inside `forward`, so that what a data-parallel wrapper or a compiler sees is
the whole of the student's work.
"""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from potstill.losses import Objective
from potstill.protocols import Task
from potstill.signals import Batch, Signals


@final
class Assignment:
    """A batch with the teacher's signals. Not a dataclass: wrappers must hand it on untouched."""

    __slots__ = ("batch", "counts", "teacher")

    def __init__(
        self, batch: Batch, teacher: Signals, counts: tuple[Tensor | int, ...] | None
    ) -> None:
        self.batch, self.teacher, self.counts = batch, teacher, counts


@final
class Lesson(nn.Module):
    """Student, objective and task as one module; `forward` gives the loss of an assignment."""

    def __init__(self, student: nn.Module, objective: Objective, task: Task) -> None:
        super().__init__()
        self.student = student
        self.parts = objective.parts()
        self._objective, self._task = objective, task
        needs = objective.needs()
        self._layers: Sequence[str] = needs.student_layers
        self._with_weights = needs.student_weights

    def signals(self, batch: Batch) -> Signals:
        """What the student says, with all that the objective needs."""
        said = self._task.forward(self.student, batch, layers=self._layers)
        if not self._with_weights:
            return said
        weights = tuple(p for p in self.student.parameters() if p.requires_grad)
        return Signals(
            logits=said.logits, features=said.features, embedding=said.embedding, weights=weights
        )

    def forward(self, assignment: Assignment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (a scalar with gradient) and the value of each term (without)."""
        value = self._objective(
            self.signals(assignment.batch),
            assignment.teacher,
            self._task.target(assignment.batch),
            counts=assignment.counts,
        )
        return value.loss, value.terms
