"""Terms that compare two softened distributions, over all classes or over those a teacher kept."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.closed_forms import scratch
from potstill.functional.coarse import Kept, binned, binned_in_place, kept_classes, spread
from potstill.functional.divergences import log_softened
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_number
from potstill.losses.rows import ONE_OF_MANY, RowTerm
from potstill.losses.transcripts import FRAMES
from potstill.protocols import Needs
from potstill.signals import SparseLogits

SOFT = Needs(
    student_logits=True,
    teacher_logits=True,
    sparse_teacher=True,
    min_classes=2,
    kinds=ONE_OF_MANY | FRAMES,
)


class DivergenceTerm(RowTerm):
    r"""$T^2$ times a divergence of the softmax of the logits at temperature T.

    A subclass is a frozen dataclass with the option `temperature` and gives `divergence`; if it
    also gives `closed_form`, rows of lazy logits take fewer passes over memory. Options of its own
    are checked in `check_options`.

    A teacher that kept K classes and the mass of the others is compared over K + 1 bins; with
    every class kept this is the divergence over all of them. With sampled classes the gradient of
    forward KL is q - t with the sampled frequencies t, which is unbiased; other divergences are not
    linear in the teacher and refuse samples (`follows_samples`).
    """

    temperature: float

    def __post_init__(self) -> None:
        self.check_options()
        check_number(self, "temperature", self.temperature, above=0)

    def check_options(self) -> None:
        """Refuse values of options other than the temperature that cannot teach.

        Raises:
            RecipeError: naming the option and what it takes.
        """
        return

    def needs(self) -> Needs:
        """Logits on both sides, of a teacher all or the best of them."""
        return SOFT

    def follows_samples(self) -> bool:
        """Whether classes sampled from the teacher give the right gradient on average."""
        return False

    @abstractmethod
    def divergence(self, student_log_NC: Tensor, teacher_log_NC: Tensor) -> Tensor:
        """The divergence of each row, `[N]`, from log-probabilities; the teacher's may be -inf."""

    def closed_form(self, student_NC: Tensor, teacher_NC: Tensor) -> tuple[Tensor, Tensor]:
        """The divergences `[N]` of softmaxes, and their gradient `[N, C]` by the student's logits.

        Equivalent to autograd through `divergence`. Both arguments are finite and the term's own:
        it may overwrite them.
        """
        with torch.enable_grad():
            leaf_NC = student_NC.detach().requires_grad_()
            student_log_NC = F.log_softmax(leaf_NC, dim=-1)
            losses_N = self.divergence(student_log_NC, F.log_softmax(teacher_NC, dim=-1))
            (gradient_NC,) = torch.autograd.grad(losses_N.sum(), leaf_NC)
        return losses_N.detach(), gradient_NC

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        student_log_NC = log_softened(student_NC, self.temperature)
        divergences_N = self.divergence(student_log_NC, log_softened(teacher_NC, self.temperature))
        return self.temperature**2 * divergences_N

    def row_gradients(
        self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in `RowTerm`."""
        student_NC = scratch(student_NC, self.temperature)
        return self._hot(*self.closed_form(student_NC, scratch(teacher_NC, self.temperature)))

    def sparse_row_losses(
        self, student_NC: Tensor, teacher: SparseLogits, labels: Tensor
    ) -> Tensor:
        """As in `RowTerm`."""
        kept = self._kept(teacher)
        student_NB = binned(upcast(student_NC) / self.temperature, kept)
        divergences_N = self.divergence(F.log_softmax(student_NB, dim=-1), kept.teacher_log_NB)
        return self.temperature**2 * divergences_N

    def sparse_row_gradients(
        self, student_NC: Tensor, teacher: SparseLogits, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in `RowTerm`."""
        kept = self._kept(teacher)
        student_NB, tail = binned_in_place(scratch(student_NC, self.temperature), kept)
        losses_N, gradient_NB = self.closed_form(student_NB, scratch(kept.teacher_log_NB, 1))
        return self._hot(losses_N, spread(gradient_NB, kept, tail))

    def _hot(self, losses_N: Tensor, gradient_NC: Tensor) -> tuple[Tensor, Tensor]:
        """T² for the value; 1 / T of it has gone into the logits."""
        if self.temperature == 1:
            return losses_N, gradient_NC
        return losses_N * self.temperature**2, gradient_NC.mul_(self.temperature)

    def _kept(self, teacher: SparseLogits) -> Kept:
        problem = wrong_for(self, teacher)
        if problem is not None:
            raise HandshakeError(f"`{self.name}`: {problem}")
        return kept_classes(teacher.ids_NK, teacher.logprobs_NK, teacher.tail_N)


def wrong_for(term: DivergenceTerm, kept: SparseLogits) -> str | None:
    """Why a term cannot follow these kept classes, in a sentence; `None` if it can."""
    if kept.temperature != term.temperature:
        return (
            f"it has temperature {term.temperature:g}, and the log-probabilities that the teacher "
            f"kept were computed at {kept.temperature:g}; set temperature={kept.temperature:g}, or "
            f"label again at {term.temperature:g}."
        )
    if kept.sampled and not term.follows_samples():
        return (
            "the teacher's classes were sampled, which is right on average for forward KL alone; "
            "use kd, or label again with the best classes and a tail."
        )
    return None
