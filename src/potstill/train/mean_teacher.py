"""The student's own moving average as its teacher."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

from torch import nn

from potstill.errors import RecipeError
from potstill.protocols import Offers, SeenLayer
from potstill.signals import Batch, Signals
from potstill.teachers.fingerprints import digest
from potstill.train.average import MovingAverage
from potstill.train.growing import GrowingTeacher, LiveModule, State

if TYPE_CHECKING:
    from potstill.train.distiller import Distiller


@final
class MeanTeacher(GrowingTeacher):
    r"""An exponential moving average of the student's weights that teaches the student.

    After step t the average is $\theta' \leftarrow a_t \theta' + (1 - a_t) \theta$ with $a_t =
    \min(a, 1 - 1 / t)$, so that the first steps are forgotten. Terms that need a teacher count
    $e^{-5 (1 - s)^2}$ of their weight while the share s of the first `ramp` of all steps has passed
    (Tarvainen and Valpola 2017, arXiv:1703.01780, §3 and appendix B; there the ramp is 80 epochs of
    300). It is asked in eval mode about the same views as the student: what differs between the two
    is the student's dropout, and the weights.

    Args:
        decay: a, between 0 and 1.
        ramp: a share of all steps, from 0 (no ramp) to 1.

    Raises:
        RecipeError: an option out of its range.
    """

    def __init__(self, *, decay: float = 0.99, ramp: float = 0.25) -> None:
        if not 0 < decay < 1:
            raise RecipeError(f"`decay` is {decay!r}; it must be between 0 and 1.")
        if not 0 <= ramp <= 1:
            raise RecipeError(f"`ramp` is {ramp!r}; it must be a share of all steps, 0 to 1.")
        self._decay, self._ramp, self._total = decay, ramp, 0
        self._average: MovingAverage | None = None

    def join(self, distiller: "Distiller", batch: Batch) -> None:
        """Start as the student."""
        self._student = distiller.student
        self._average = MovingAverage(distiller.student, decay=self._decay, warm=True)
        self._average.module.eval().requires_grad_(False)
        self._answers = LiveModule(self._average.module, distiller.task)

    def plan_steps(self, total: int) -> None:
        """The length of the ramp."""
        self._total = total

    def grow(self, batch: Batch) -> None:
        """Take in the student's weights."""
        self._ready.update(self._student)

    def trust(self, step: int) -> float:
        """As above; 1 for a training whose length is not known."""
        ramp = self._ramp * self._total
        return 1.0 if step >= ramp else math.exp(-5 * (1 - step / ramp) ** 2)

    @property
    def _ready(self) -> MovingAverage:
        assert self._average is not None, "`join` comes before anything is asked"
        return self._average

    def offers(self) -> Offers:
        """As the student."""
        return self._answers.offers()

    def fingerprint(self) -> str:
        """Digest of how it follows the student."""
        return digest(["mean teacher", repr(self._decay), repr(self._ramp)])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """What the average says."""
        return self._answers.signals(batch, layers=layers)

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """The layers of the average."""
        return self._answers.trace(batch)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The average."""
        return {"teacher": self._ready.module}

    def state(self) -> State:
        """The average, and how many steps it has seen."""
        return self._ready.state()

    def load(self, state: State) -> None:
        """The average, as it was."""
        self._ready.load(state)
