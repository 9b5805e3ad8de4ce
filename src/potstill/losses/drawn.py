"""What terms on tokens that the student drew have in common.

The label of a row is the token that was drawn there, and `Target.logprobs` the log-probability that
it was drawn with. Rows whose token the student did not draw are not counted.

N rows · C classes · y the drawn token.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.divergences import log_softened
from potstill.functional.reductions import keep_rows
from potstill.losses.checks import check_number
from potstill.losses.rows import RowTerm
from potstill.protocols import Needs
from potstill.signals import AnyLogits, LazyLogits, Logits, SparseLogits, Target

_CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**25}  # of logits looked at together beforehand


@dataclass(frozen=True, kw_only=True, repr=False)
class DrawnTerm(RowTerm):
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
        drawn_N, mask_N = ~drawn_with(self, target).isnan(), target.valid
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
        drawn_N = drawn_with(self, target)
        with torch.no_grad():
            returns_N = self.returns(student, teacher, target)
        return _Known(term=self, drawn_N=drawn_N, returns_N=returns_N)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`, of tokens drawn by the student as it is, after which nothing follows."""
        log_N = said(log_softened(student_NC.detach(), self.temperature), labels)
        return self.losses(student_NC, teacher_NC, labels, log_N, None)

    def surrogate(self, log_N: Tensor, drawn_N: Tensor, advantage_N: Tensor) -> Tensor:
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

    term: DrawnTerm
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


def drawn_with(term: DrawnTerm, target: Target) -> Tensor:
    """`[N]`: the log-probabilities that tokens were drawn with; NaN where they were not.

    Raises:
        HandshakeError: nothing was drawn.
    """
    if target.logprobs is None:
        raise HandshakeError(
            f"`{term.name}` needs the log-probabilities that the student's tokens were drawn with; "
            "train it on-policy, or use reverse_kl."
        )
    return target.logprobs


def said(log_NC: Tensor, labels_N: Tensor) -> Tensor:
    """`[N]`: the log-probabilities of the drawn tokens."""
    return log_NC.gather(1, labels_N.clamp(min=0)[:, None])[:, 0]


def said_in_parts(term: DrawnTerm, logits: AnyLogits | None, labels_N: Tensor) -> Tensor:
    """`[N]`: log-probabilities of the drawn tokens, some rows at a time."""
    if not isinstance(logits, Logits | LazyLogits):
        raise HandshakeError(
            f"`{term.name}` needs the logits of all the student's tokens on both sides; give a "
            "teacher with the student's tokens and dense logits, or use sampled_reverse_kl."
        )
    limit = _CHUNK_ELEMENTS.get(labels_N.device.type, 2**23)
    step = max(1, limit // logits.num_classes)
    parts: list[Tensor] = []
    for start in range(0, len(labels_N), step):
        part = slice(start, start + step)
        rows = logits.rows(part) if isinstance(logits, LazyLogits) else logits
        values = rows.values_NC if rows is not logits else rows.values_NC[part]
        parts.append(said(log_softened(values, term.temperature), labels_N[part]))
    return torch.cat(parts) if parts else torch.zeros(0, device=labels_N.device)
