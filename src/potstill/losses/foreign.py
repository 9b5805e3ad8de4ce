"""Terms on teachers with other tokens: which rows meet, and what rows must know of each other.

A span of several student tokens joins several rows: its probability is the product of theirs. So
that rows can still be computed chunk by chunk, each term looks at those spans alone first, without
gradient, and notes for every row what it needs of the others: the log-probability of the span's
other tokens, and the slope of the span's loss by them. A later row then has the loss 0 and the
gradient slope · d log q, and the sum over rows has the gradient of the whole.

N student rows · M teacher rows · S spans · U spans of several tokens · C student, V teacher tokens.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.foreign import Joined
from potstill.functional.reductions import upcast
from potstill.losses.others import ForeignRows
from potstill.losses.rows import RowTerm
from potstill.protocols import Needs
from potstill.signals import AnyLogits, CommonTokens, ForeignLogits, LazyLogits, Logits, Target

_CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**25}  # of logits looked at together beforehand


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """What a row must know of other rows. `[N]` each; -1 and 0 where there is nothing to know.

    Args:
        token_N: int64, the token that the row predicts, in spans of several tokens.
        first_N: bool, the row begins such a span.
        later_N: float32, log-probability of the student's other tokens of the span.
        slope_N: float32, of rows that go on with a span: d loss / d log q of their token.
        teacher_token_N: int64, the teacher's first token of the span.
        teacher_later_N: float32, log-probability of the teacher's other tokens of the span.
        bin_N: int64, the bin of the span.
    """

    token_N: Tensor
    first_N: Tensor
    later_N: Tensor
    slope_N: Tensor
    teacher_token_N: Tensor
    teacher_later_N: Tensor
    bin_N: Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class ForeignTerm(RowTerm):
    """A row-wise term that also follows teachers with other tokens; subclasses give `compared`.

    With a teacher of the same tokens it is what `row_losses` says.
    """

    temperature: float = 1.0

    @abstractmethod
    def compared(
        self,
        student_FC: Tensor,
        teacher_FV: Tensor,
        common: CommonTokens,
        joined: tuple[Joined, Joined] | None,
    ) -> Tensor:
        """The divergence `[F]` of rows that begin a span, without T².

        Args:
            student_FC: log-probabilities at the temperature, with gradient.
            teacher_FV: likewise, without.
            common: the tokens of both.
            joined: spans of several tokens, as the student and as the teacher has them.
        """

    @final
    def beside(self, student: AnyLogits, teacher: AnyLogits | None, target: Target) -> "RowTerm":
        """As in `RowTerm`: this term, knowing the spans that join rows."""
        if not isinstance(teacher, ForeignLogits):
            return self
        with torch.no_grad():
            links = _Beforehand(self, student, teacher, target.valid).links()
        return _Linked(term=self, common=teacher.common, links=links)


@final
@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Linked(RowTerm):
    """A term with what its rows must know of each other."""

    term: ForeignTerm
    common: CommonTokens
    links: Links | None

    def needs(self) -> Needs:
        return self.term.needs()

    @property
    def name(self) -> str:
        return self.term.name

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        return self.term.row_losses(student_NC, teacher_NC, labels)

    def foreign_row_losses(self, student_NC: Tensor, teacher: ForeignRows) -> Tensor:
        temperature = self.term.temperature
        log_NC = F.log_softmax(student_NC / temperature, dim=-1)
        begins_F = teacher.present_N.nonzero()[:, 0]
        teacher_FV = F.log_softmax(teacher.values_NV[begins_F] / temperature, dim=-1)
        rows_F = teacher.rows_N[begins_F]
        joined = None if self.links is None else _joined(self.links, rows_F)
        losses_F = self.term.compared(log_NC[begins_F], teacher_FV, self.common, joined)
        losses_N = log_NC.new_zeros(len(log_NC)).index_put((begins_F,), losses_F)
        losses_N = temperature**2 * losses_N
        if self.links is None:
            return losses_N
        token_N = self.links.token_N[teacher.rows_N].clamp(min=0)
        said_N = log_NC.gather(1, token_N[:, None])[:, 0]
        return losses_N + self.links.slope_N[teacher.rows_N] * (said_N - said_N.detach())


def _joined(links: Links, rows_F: Tensor) -> tuple[Joined, Joined] | None:
    at_U = links.first_N[rows_F].nonzero()[:, 0]
    if not len(at_U):
        return None
    rows_U = rows_F[at_U]
    bin_U = links.bin_N[rows_U]
    return (
        Joined(at_U, links.token_N[rows_U], links.later_N[rows_U], bin_U),
        Joined(at_U, links.teacher_token_N[rows_U], links.teacher_later_N[rows_U], bin_U),
    )


@final
class _Beforehand:
    """Looks at the spans of several tokens before the walk over all rows."""

    def __init__(
        self,
        term: ForeignTerm,
        student: AnyLogits,
        teacher: ForeignLogits,
        valid_N: Tensor | None,
    ) -> None:
        if not isinstance(student, Logits | LazyLogits):
            raise HandshakeError(f"`{term.name}` needs the student's logits of all its tokens.")
        self._term, self._student, self._teacher = term, student, teacher
        spans = teacher.spans
        several_S = (spans.student_rows_SA >= 0).sum(1) + (spans.teacher_rows_SB >= 0).sum(1) > 2
        if valid_N is not None:  # a span counts whole or not at all
            rows_SA = spans.student_rows_SA
            several_S &= (valid_N[rows_SA.clamp(min=0)] | (rows_SA < 0)).all(dim=1)
        self._spans = spans.pick(several_S.nonzero()[:, 0])

    def links(self) -> Links | None:
        """What all rows must know; `None` if every span is one token on both sides."""
        spans, temperature = self._spans, self._term.temperature
        if not len(spans):
            return None
        num_rows, rows_U = self._teacher.num_rows, spans.student_rows_SA[:, 0]
        later_U = _of_later(self._student, spans.student_rows_SA, spans.student_ids_SA, temperature)
        taught_U = _of_later(
            self._teacher.logits, spans.teacher_rows_SB, spans.teacher_ids_SB, temperature
        )
        bin_U = self._bins()
        whole = rows_U.new_full((num_rows,), -1)
        zeros = later_U.new_zeros(num_rows)
        first_N = zeros.bool().index_fill(0, rows_U, True)
        links = Links(
            token_N=whole.index_put((rows_U,), spans.student_ids_SA[:, 0]),
            first_N=first_N,
            later_N=zeros.index_put((rows_U,), later_U),
            slope_N=zeros.clone(),
            teacher_token_N=whole.index_put((rows_U,), spans.teacher_ids_SB[:, 0]),
            teacher_later_N=zeros.index_put((rows_U,), taught_U),
            bin_N=whole.index_put((rows_U,), bin_U),
        )
        self._note_slopes(links)
        return links

    def _note_slopes(self, links: Links) -> None:
        """The slopes and tokens of rows that go on with a span; changes `links`."""
        spans, common = self._spans, self._teacher.common
        for part in _parts(spans.student_rows_SA, self._student.num_classes):
            rows_U, their_rows_U = spans.student_rows_SA[part, 0], spans.teacher_rows_SB[part, 0]
            log_UC, log_UV = (
                _log_probs(logits, rows, self._term.temperature)
                for logits, rows in (
                    (self._student, rows_U),
                    (self._teacher.logits, their_rows_U),
                )
            )
            joined = _joined(links, rows_U)
            assert joined is not None, "all of these rows begin a span of several tokens"
            with torch.enable_grad():
                later_U = joined[0].later_U.detach().requires_grad_()
                pair = (joined[0]._replace(later_U=later_U), joined[1])
                losses_U = self._term.compared(log_UC, log_UV, common, pair)
                if not losses_U.requires_grad:  # the term does not look at whole spans
                    return
                (slope_U,) = torch.autograd.grad(losses_U.sum(), later_U)
            later_rows_UA, ids_UA = spans.student_rows_SA[part, 1:], spans.student_ids_SA[part, 1:]
            there_UA = later_rows_UA >= 0
            slopes_UA = slope_U[:, None].expand_as(later_rows_UA) * self._term.temperature**2
            links.slope_N[later_rows_UA[there_UA]] = slopes_UA[there_UA]
            links.token_N[later_rows_UA[there_UA]] = ids_UA[there_UA]

    def _bins(self) -> Tensor:
        """`[U]`: where a span is one common token of either side that token's bin, else J + 1."""
        spans, common = self._spans, self._teacher.common
        mine_U = _places(common.student_ids_J, spans.student_ids_SA[:, 0])
        theirs_U = _places(common.teacher_ids_J, spans.teacher_ids_SB[:, 0])
        one_U = (spans.student_rows_SA >= 0).sum(1) == 1
        their_one_U = (spans.teacher_rows_SB >= 0).sum(1) == 1
        bin_U = torch.full_like(mine_U, len(common) + 1)
        bin_U = torch.where(their_one_U & (theirs_U >= 0), theirs_U, bin_U)
        return torch.where(one_U & (mine_U >= 0), mine_U, bin_U)


def _places(ids_J: Tensor, wanted_U: Tensor) -> Tensor:
    """Where in `ids_J` each wanted id is; -1 if nowhere."""
    order_J = ids_J.argsort()
    at_U = torch.searchsorted(ids_J[order_J], wanted_U.contiguous()).clamp(max=len(ids_J) - 1)
    found_U = order_J[at_U]
    return torch.where(ids_J[found_U] == wanted_U, found_U, -1)


def _of_later(
    logits: Logits | LazyLogits, rows_UA: Tensor, ids_UA: Tensor, temperature: float
) -> Tensor:
    """`[U]`: Σ log p of the tokens after the first."""
    rows_UA, ids_UA = rows_UA[:, 1:], ids_UA[:, 1:]
    there_UA = rows_UA >= 0
    rows_L, ids_L = rows_UA[there_UA], ids_UA[there_UA]
    said_L = torch.cat(
        [
            _log_probs(logits, rows_L[part], temperature).gather(1, ids_L[part, None])[:, 0]
            for part in _parts(rows_L, logits.num_classes)
        ]
        or [torch.zeros(0, device=rows_UA.device)]
    )
    said_UA = said_L.new_zeros(rows_UA.shape).index_put((there_UA,), said_L)
    return said_UA.sum(dim=1)


def _log_probs(logits: Logits | LazyLogits, rows_R: Tensor, temperature: float) -> Tensor:
    if isinstance(logits, LazyLogits):
        values_RC = logits.rows(rows_R).values_NC
    else:
        values_RC = logits.values_NC[rows_R]
    return F.log_softmax(upcast(values_RC.detach()) / temperature, dim=-1)


def _parts(rows: Tensor, num_classes: int) -> Iterator[slice]:
    step = max(1, _CHUNK_ELEMENTS.get(rows.device.type, 2**23) // num_classes)
    return (slice(start, start + step) for start in range(0, len(rows), step))
