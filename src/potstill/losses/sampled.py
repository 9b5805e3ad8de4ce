"""Terms on tokens that the student drew itself: reverse KL by one sample, and MiniLLM's gradient.

The label of a row is the token that was drawn there, and `Target.logprobs` the log-probability that
it was drawn with. Rows whose token the student did not draw are not counted.

N rows · C classes · p teacher, q student, y the drawn token.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.divergences import LOG_TINY, log_softened, reverse_kl
from potstill.functional.reductions import keep_rows, upcast
from potstill.losses.checks import check_flag, check_number
from potstill.losses.rows import ONE_OF_MANY, RowTerm
from potstill.protocols import Needs
from potstill.signals import AnyLogits, LazyLogits, Logits, SparseLogits, Target

_CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**25}  # of logits looked at together beforehand
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


@dataclass(frozen=True, kw_only=True, repr=False)
class _DrawnTerm(RowTerm):
    """What both terms share: which rows count, and the clipped ratio."""

    temperature: float = 1.0
    clip: float | None = None

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)
        if self.clip is not None:
            check_number(self, "clip", self.clip, above=0, below=1)

    def count(self, target: Target) -> Tensor | int:
        """The rows whose token was drawn, or their weights."""
        if target.labels is None:
            return 0
        drawn_N, mask_N = ~_drawn(self, target).isnan(), target.valid
        counts_N = drawn_N if mask_N is None else drawn_N & mask_N
        return (counts_N if target.weights is None else keep_rows(target.weights, counts_N)).sum()

    @abstractmethod
    def losses(
        self,
        student_NC: Tensor,
        teacher: Tensor | SparseLogits,
        labels_N: Tensor,
        drawn_N: Tensor,
        returns_N: Tensor | None,
    ) -> Tensor:
        """The loss of each row, `[N]`; where `drawn_N` is NaN anything.

        Args:
            student_NC: logits, with gradient.
            teacher: logits, or the classes that it kept.
            labels_N: the drawn tokens.
            drawn_N: the log-probabilities that they were drawn with.
            returns_N: what `returns` gave.
        """

    def returns(
        self, student: AnyLogits, teacher: AnyLogits | None, target: Target
    ) -> Tensor | None:
        """`[N]`: what follows from each row in the rest of its answer; `None` if not asked."""
        return None

    @final
    def beside(self, student: AnyLogits, teacher: AnyLogits | None, target: Target) -> RowTerm:
        """As in `RowTerm`: this term, knowing how likely the tokens were and what followed."""
        if target.labels is None:
            return self
        drawn_N = _drawn(self, target)
        with torch.no_grad():
            returns_N = self.returns(student, teacher, target)
        return _Known(term=self, drawn_N=drawn_N, returns_N=returns_N)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`, of tokens drawn by the student as it is, after which nothing follows."""
        log_N = _said(log_softened(student_NC.detach(), self.temperature), labels)
        return self.losses(student_NC, teacher_NC, labels, log_N, None)

    def _surrogate(self, log_N: Tensor, drawn_N: Tensor, advantage_N: Tensor) -> Tensor:
        """`[N]`: -ratio · advantage, with the ratio clipped as in PPO."""
        ratio_N = (log_N - drawn_N).exp()
        gain_N = ratio_N * advantage_N
        if self.clip is not None:
            near_N = ratio_N.clamp(1 - self.clip, 1 + self.clip)
            gain_N = torch.minimum(gain_N, near_N * advantage_N)
        return -gain_N


@final
@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Known(RowTerm):
    """A term with what is known of its rows beside their logits."""

    term: _DrawnTerm
    drawn_N: Tensor
    returns_N: Tensor | None

    @property
    def name(self) -> str:
        return self.term.name

    def needs(self) -> Needs:
        return self.term.needs()

    def at(self, rows: slice | Tensor) -> RowTerm:
        returns_N = None if self.returns_N is None else self.returns_N[rows]
        return replace(self, drawn_N=self.drawn_N[rows], returns_N=returns_N)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        return self._losses(student_NC, teacher_NC, labels)

    def sparse_row_losses(
        self, student_NC: Tensor, teacher: SparseLogits, labels: Tensor
    ) -> Tensor:
        return self._losses(student_NC, teacher, labels)

    def _losses(self, student_NC: Tensor, teacher: Tensor | SparseLogits, labels: Tensor) -> Tensor:
        there_N = ~self.drawn_N.isnan()
        drawn_N = torch.where(there_N, self.drawn_N, 0)
        losses_N = self.term.losses(student_NC, teacher, labels, drawn_N, self.returns_N)
        return torch.where(there_N, losses_N, 0)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class SampledReverseKL(_DrawnTerm):
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
            taught_N = _said(log_softened(teacher, self.temperature), labels_N)
        log_N = _said(log_softened(student_NC, self.temperature), labels_N)
        advantage_N = taught_N.clamp(min=LOG_TINY) - log_N.detach()
        return self.temperature**2 * self._surrogate(log_N, drawn_N, advantage_N)

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
class MiniLLM(_DrawnTerm):
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
        _DrawnTerm.__post_init__(self)
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
            log_N = _said(student_log_NC, labels_N)
            losses_N = losses_N + self._surrogate(log_N, drawn_N, returns_N)
        return self.temperature**2 * losses_N

    def returns(
        self, student: AnyLogits, teacher: AnyLogits | None, target: Target
    ) -> Tensor | None:
        """As in the class: R_{t+1} of each row, 0 at the end of an answer."""
        assert target.labels is not None
        labels_N = target.labels.clamp(min=0)
        taught_N = _said_in_parts(self, teacher, labels_N).clamp(min=LOG_TINY)
        gained_N = taught_N - _said_in_parts(self, student, labels_N)
        counts_N = ~_drawn(self, target).isnan()
        if target.valid is not None:
            counts_N &= target.valid
        gained_N = torch.where(counts_N, gained_N, 0)
        samples_N = target.samples
        if samples_N is None:
            samples_N = torch.arange(target.num_rows, device=gained_N.device)
        return following(gained_N, counts_N, samples_N, self.gamma, normalise=self.normalise)


def following(
    gained_N: Tensor, counts_N: Tensor, samples_N: Tensor, gamma: float, *, normalise: bool
) -> Tensor:
    """`[N]`: Σ γ^(t' - t) of what later rows of the same sample gained.

    Args:
        gained_N: of each row; 0 where it does not count.
        counts_N: bool, which rows count.
        samples_N: int64, rising: whose row it is.
        gamma: from 0 to 1.
        normalise: divide by the number of rows that are added up.
    """
    if not len(samples_N):
        return gained_N
    changes_N = samples_N.diff(prepend=samples_N[:1]) != 0
    lengths_S = changes_N.cumsum(0).bincount()
    starts_S = lengths_S.cumsum(0) - lengths_S
    place_N = torch.arange(len(samples_N), device=samples_N.device)
    place_N = place_N - starts_S.repeat_interleave(lengths_S)
    row_N = torch.arange(len(lengths_S), device=samples_N.device).repeat_interleave(lengths_S)
    longest = int(lengths_S.max())
    size = (len(lengths_S), longest)
    gained_SL = gained_N.new_zeros(size).index_put((row_N, place_N), gained_N)
    counts_SL = gained_N.new_zeros(size).index_put((row_N, place_N), counts_N.to(gained_N))
    sums_SL, many_SL = torch.zeros_like(gained_SL), torch.zeros_like(gained_SL)
    for step in range(longest - 2, -1, -1):
        sums_SL[:, step] = gamma * (gained_SL[:, step + 1] + sums_SL[:, step + 1])
        many_SL[:, step] = counts_SL[:, step + 1] + many_SL[:, step + 1]
    if normalise:
        sums_SL = sums_SL / many_SL.clamp(min=1)
    return sums_SL[row_N, place_N]


def _drawn(term: _DrawnTerm, target: Target) -> Tensor:
    if target.logprobs is None:
        raise HandshakeError(
            f"`{term.name}` needs the log-probabilities that the student's tokens were drawn with; "
            "train it on-policy, or use reverse_kl."
        )
    return target.logprobs


def _said(log_NC: Tensor, labels_N: Tensor) -> Tensor:
    return log_NC.gather(1, labels_N.clamp(min=0)[:, None])[:, 0]


def _said_in_parts(term: _DrawnTerm, logits: AnyLogits | None, labels_N: Tensor) -> Tensor:
    """`[N]`: log-probabilities of the drawn tokens, some rows at a time."""
    if not isinstance(logits, Logits | LazyLogits):
        raise HandshakeError(
            f"`{term.name}` needs the logits of all the student's tokens on both sides; give a "
            "teacher with the student's tokens and dense logits, or use sampled_reverse_kl."
        )
    limit = _CHUNK_ELEMENTS.get(labels_N.device.type, 2**23)
    step = max(1, limit // logits.num_classes)
    said: list[Tensor] = []
    for start in range(0, len(labels_N), step):
        part = slice(start, start + step)
        rows = logits.rows(part) if isinstance(logits, LazyLogits) else logits
        values = rows.values_NC if rows is not logits else rows.values_NC[part]
        said.append(_said(log_softened(values, term.temperature), labels_N[part]))
    return torch.cat(said) if said else torch.zeros(0, device=labels_N.device)
