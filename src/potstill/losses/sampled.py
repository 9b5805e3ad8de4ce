"""Terms on tokens that the student drew itself: reverse KL by one sample, and MiniLLM's gradient.

The label of a row is the token that was drawn there, and `Target.logprobs` the log-probability that
it was drawn with. Rows whose token the student did not draw are not counted.

N rows · C classes · p teacher, q student, y the drawn token.
"""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.divergences import LOG_TINY, log_softened, reverse_kl
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_flag, check_number
from potstill.losses.drawn import DrawnTerm, drawn_with, following, said, said_in_parts
from potstill.losses.rows import ONE_OF_MANY
from potstill.protocols import Needs
from potstill.signals import AnyLogits, SparseLogits, Target

_DENSE = Needs(
    student_logits=True,
    teacher_logits=True,
    labels=True,
    class_labels=True,
    drawn=True,
    min_classes=2,
    kinds=ONE_OF_MANY,
)
_KEPT = replace(_DENSE, sparse_teacher=True)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class SampledReverseKL(DrawnTerm):
    r"""Reverse KL by the one token that the student drew: a teacher need only score that token.

    Formula: $-T^2 \frac{q_y}{\bar q_y} A$ with $A = \log p_y - \log q_y$ taken as a constant, and
        $\bar q_y$ the probability that y was drawn with; with `clip`, the smaller of this and the
        same with the ratio kept within 1 ± clip, as a gain.
    Shapes: logits `[N, C]` on both sides, or of the teacher the drawn tokens alone; labels `[N]`.
    Paper: Agarwal et al. 2023, arXiv:2306.13649; the clip: Schulman et al. 2017, arXiv:1707.06347.
    Requires: tokens that the student drew, with their log-probabilities; other rows are skipped.
    Related: its gradient is that of `ReverseKL`, right on average over y (without `clip`), also
        when the student has changed since y was drawn. `ReverseKL` knows all tokens and has no such
        noise. Its value is an estimate and may be negative.
    Example: `SampledReverseKL(clip=0.2)`

    Args:
        temperature: T, above 0; tokens are to be drawn at the same.
        clip: how far the ratio may be from 1, strictly between 0 and 1; left out, any far.
    """

    def needs(self) -> Needs:
        """Logits on both sides and the drawn tokens."""
        return _KEPT

    def losses(
        self,
        student_NC: Tensor,
        teacher: Tensor | SparseLogits,
        labels_N: Tensor,
        drawn_N: Tensor,
        returns_N: Tensor | None,
    ) -> Tensor:
        """As in the class."""
        if isinstance(teacher, SparseLogits):
            taught_N = self._taught_by_kept(teacher, labels_N)
        else:
            taught_N = said(log_softened(teacher, self.temperature), labels_N)
        log_N = said(log_softened(student_NC, self.temperature), labels_N)
        advantage_N = taught_N.clamp(min=LOG_TINY) - log_N.detach()
        return self.temperature**2 * self.surrogate(log_N, drawn_N, advantage_N)

    def _taught_by_kept(self, teacher: SparseLogits, labels_N: Tensor) -> Tensor:
        """A token that the teacher did not keep has an even share of its tail."""
        if teacher.temperature != self.temperature or teacher.sampled:
            kind = "sampled classes" if teacher.sampled else f"{teacher.temperature:g}"
            raise HandshakeError(
                f"`{self.name}` needs the teacher's log-probability of the drawn tokens at "
                f"temperature {self.temperature:g}, and got {kind}; ask the teacher again."
            )
        filled_NK = teacher.logprobs_NK > -torch.inf
        found_NK = (teacher.ids_NK == labels_N[:, None]) & filled_NK
        kept_N = teacher.logprobs_NK.masked_fill(~found_NK, -torch.inf).amax(dim=-1)
        others_N = (teacher.num_classes - filled_NK.sum(dim=-1)).clamp(min=1)
        share_N = upcast(teacher.tail_N).log() - others_N.log()
        return torch.where(found_NK.any(dim=-1), kept_N, share_N)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class MiniLLM(DrawnTerm):
    r"""Reverse KL of whole answers: each step summed exactly, what follows from it by sampling.

    Formula: $T^2 [\mathrm{KL}(q \,\|\, p)_t - \frac{q_y}{\bar q_y} R_{t+1}]$ with
        $R_{t+1} = \sum_{t' > t} \gamma^{t' - t} (\log p_{y_{t'}} - \log q_{y_{t'}})$ over the
        rest of the answer, taken as a constant, and divided by the number of its tokens if
        `normalise` is set.
    Shapes: logits `[N, C]` on both sides; labels `[N]`; the rows of an answer in order.
    Paper: Gu et al. 2023, arXiv:2306.08543.
    Requires: answers that the student drew (or a mixture of it and the teacher), with the
        log-probabilities that tokens were drawn with; other rows are skipped.
    Related: with γ = 0 what follows does not count and it is `ReverseKL` of the drawn rows. The
        published training adds cross entropy on other texts. Heads are computed twice, since the
        returns must be known first.
    Example: `MiniLLM(clip=0.2) + CrossEntropy()`

    Args:
        temperature: T, above 0; tokens are to be drawn at the same.
        clip: how far the ratio may be from 1, strictly between 0 and 1; left out, any far.
        gamma: γ, from 0 to 1.
        normalise: divide returns by the number of tokens that they add up.
    """

    gamma: float = 1.0
    normalise: bool = True

    def __post_init__(self) -> None:
        DrawnTerm.__post_init__(self)
        check_number(self, "gamma", self.gamma, at_least=0, at_most=1)
        check_flag(self, "normalise", self.normalise)

    def needs(self) -> Needs:
        """Logits on both sides and the drawn tokens."""
        return _DENSE

    def losses(
        self,
        student_NC: Tensor,
        teacher: Tensor | SparseLogits,
        labels_N: Tensor,
        drawn_N: Tensor,
        returns_N: Tensor | None,
    ) -> Tensor:
        """As in the class."""
        assert isinstance(teacher, Tensor), "the handshake refuses kept classes"
        student_log_NC = log_softened(student_NC, self.temperature)
        losses_N = reverse_kl(student_log_NC, log_softened(teacher, self.temperature))
        if returns_N is not None:
            log_N = said(student_log_NC, labels_N)
            losses_N = losses_N + self.surrogate(log_N, drawn_N, returns_N)
        return self.temperature**2 * losses_N

    def returns(
        self, student: AnyLogits, teacher: AnyLogits | None, target: Target
    ) -> Tensor | None:
        """As in the class: R_{t+1} of each row, 0 at the end of an answer."""
        assert target.labels is not None
        labels_N = target.labels.clamp(min=0)
        taught_N = said_in_parts(self, teacher, labels_N).clamp(min=LOG_TINY)
        gained_N = taught_N - said_in_parts(self, student, labels_N)
        counts_N = ~drawn_with(self, target).isnan()
        if target.valid is not None:
            counts_N &= target.valid
        gained_N = torch.where(counts_N, gained_N, 0)
        samples_N = target.samples
        if samples_N is None:
            samples_N = torch.arange(target.num_rows, device=gained_N.device)
        return following(gained_N, counts_N, samples_N, self.gamma, normalise=self.normalise)
