"""The module that is wrapped for training: the student, its projectors and the loss of a batch.

The loss is computed inside `forward`, so that what a data-parallel wrapper or a compiler sees is
the whole of the student's work.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast, final

from torch import Tensor, nn

from potstill.losses import Objective
from potstill.protocols import Task
from potstill.signals import Batch, Logits, Signals
from potstill.train.pace import EXACT_PACE, Pace


@final
class Assignment:
    """A batch with the teacher's signals. Not a dataclass: wrappers must hand it on untouched.

    `trust` is what terms that need the teacher are multiplied with; `share` how much of all steps
    is over.
    """

    __slots__ = ("batch", "counts", "share", "teacher", "trust")

    def __init__(
        self,
        batch: Batch,
        teacher: Signals,
        counts: tuple[Tensor | int, ...] | None,
        *,
        trust: float = 1.0,
        share: float = 0.0,
    ) -> None:
        self.batch, self.teacher, self.counts = batch, teacher, counts
        self.trust, self.share = trust, share


Loss = tuple[Tensor, dict[str, Tensor]]


@final
class Lesson(nn.Module):
    """Student, objective and task as one module; `forward` gives the loss of an assignment.

    Args:
        student: what trains.
        objective: bound.
        task: how the student is called.
        pace: how its step is computed.
        rows: of a whole micro-batch, for a pace that compiles.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        task: Task,
        *,
        pace: Pace = EXACT_PACE,
        rows: int = 0,
    ) -> None:
        super().__init__()
        self.student = student
        self.parts = objective.parts()
        self._objective, self._task = objective, task
        needs = objective.needs()
        self._layers: Sequence[str] = needs.student_layers
        self._with_weights, self._twice = needs.student_weights, needs.second_view
        self._pace, self._rows = pace, rows
        _ = objective.names  # made now: a compiler stops at the lock that guards its making
        self._compiled = cast("Callable[[Assignment], Loss]", pace.compile(self._evaluate))

    def signals(self, batch: Batch) -> Signals:
        """What the student says, with all that the objective needs."""
        with self._pace.autocast(batch.inputs.device):
            said = self._task.forward(self.student, batch, layers=self._layers)
            if self._twice:
                again = self._task.forward(self.student, batch).logits
                assert isinstance(again, Logits), "terms on two passes are for dense rows"
                said = replace(said, second=again.values_NC)
        if not self._with_weights:
            return said
        weights = tuple(p for p in self.student.parameters() if p.requires_grad)
        return replace(said, weights=weights)

    def forward(self, assignment: Assignment) -> Loss:
        """The loss (a scalar with gradient) and the value of each term (without)."""
        if len(assignment.batch) == self._rows:
            return self._compiled(assignment)
        return self._evaluate(assignment)

    def _evaluate(self, assignment: Assignment) -> Loss:
        objective = self._objective.during(assignment.share)
        if assignment.trust != 1.0:
            objective = objective.trusting(assignment.trust)
        value = objective(
            self.signals(assignment.batch),
            assignment.teacher,
            replace(self._task.target(assignment.batch), chance=assignment.batch.chance),
            counts=assignment.counts,
        )
        return value.loss, value.terms
