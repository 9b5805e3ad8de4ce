"""Where a walk over chunks reads its rows: heads, and whatever form the teacher's logits have.

M rows that count · R rows of a chunk · B rows of a block in it · C classes · D features.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from potstill.functional.heads import PLAIN, Shape, shape_of
from potstill.functional.reductions import upcast
from potstill.losses.others import ForeignRows, first_rows, foreign_rows
from potstill.losses.rows import ABSENT, AnyRows
from potstill.signals import AnyLogits, ForeignLogits, LazyLogits, Logits, SparseLogits


def pick(tensor: Tensor, index_M: Tensor | None, rows: slice) -> Tensor:
    """`tensor[index_M][rows]`, without the first copy."""
    return tensor[rows] if index_M is None else tensor[index_M[rows]]


@final
class Head:
    """The logits of some rows at a time, computed into one buffer.

    Args:
        hidden_ND: what goes in.
        weight_CD: the head's weight, as it is stored.
        bias_C: its bias, if there is one.
        index_M: the rows that count; `None` means all.
        shape: what is done to each logit after that.
    """

    def __init__(
        self,
        hidden_ND: Tensor,
        weight_CD: Tensor,
        bias_C: Tensor | None,
        index_M: Tensor | None,
        *,
        shape: Shape,
    ) -> None:
        self.shape = shape
        self.dtype = _dtype_of_product(weight_CD)
        self.weight_CD = weight_CD.detach().to(self.dtype)
        self._bias_C = None if bias_C is None else bias_C.detach().to(self.dtype)
        self._hidden_ND, self._index_M = hidden_ND.detach(), index_M
        self._buffer_RC = hidden_ND.new_empty(0)

    @property
    def bytes_per_row(self) -> int:
        """Of the buffer."""
        return self.weight_CD.shape[0] * self.dtype.itemsize

    def rows(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Hidden states `[R, D]` and logits `[R, C]`; the logits last until the next call."""
        hidden_RD = pick(self._hidden_ND, self._index_M, rows).to(self.dtype)
        if len(self._buffer_RC) < len(hidden_RD):
            self._buffer_RC = self.weight_CD.new_empty(len(hidden_RD), len(self.weight_CD))
        logits_RC = self._buffer_RC[: len(hidden_RD)]
        if self._bias_C is None:
            torch.mm(hidden_RD, self.weight_CD.t(), out=logits_RC)
        else:
            torch.addmm(self._bias_C, hidden_RD, self.weight_CD.t(), out=logits_RC)
        if not self.shape.is_plain:
            self.shape.apply_(logits_RC)
        return hidden_RD, logits_RC


def _dtype_of_product(weight_CD: Tensor) -> torch.dtype:
    device = weight_CD.device.type
    if torch.is_autocast_enabled(device) and weight_CD.dtype is not torch.float64:
        return torch.get_autocast_dtype(device)
    return weight_CD.dtype


class TeacherRows(ABC):
    """The teacher's rows of a walk. `begin` is called once a chunk, `rows` for blocks within it."""

    bytes_per_row = 0

    def begin(self, chunk: slice) -> None:
        """Get ready for these rows."""
        return

    @abstractmethod
    def rows(self, block: slice) -> AnyRows:
        """`[B, C]` in float32 or better, the kept classes of B rows, or rows of other tokens."""


def teacher_rows(logits: AnyLogits | None, index_M: Tensor | None) -> TeacherRows:
    """The reader for this form of logits."""
    match logits:
        case Logits():
            return _Dense(logits.values_NC.detach(), index_M)
        case SparseLogits():
            return _Sparse(logits, index_M)
        case LazyLogits():
            return _Lazy(logits, index_M)
        case ForeignLogits():
            return _Foreign(logits, index_M)
    return _Absent()


@final
class _Absent(TeacherRows):
    def rows(self, block: slice) -> Tensor:
        return ABSENT


@final
class _Dense(TeacherRows):
    def __init__(self, values_NC: Tensor, index_M: Tensor | None) -> None:
        self._values_NC, self._index_M = values_NC, index_M

    def rows(self, block: slice) -> Tensor:
        return upcast(pick(self._values_NC, self._index_M, block))


@final
class _Sparse(TeacherRows):
    def __init__(self, logits: SparseLogits, index_M: Tensor | None) -> None:
        self._logits, self._index_M = logits, index_M

    def rows(self, block: slice) -> SparseLogits:
        logits, index_M = self._logits, self._index_M
        return replace(
            logits,
            ids_NK=pick(logits.ids_NK, index_M, block),
            logprobs_NK=pick(logits.logprobs_NK.detach(), index_M, block),
            tail_N=pick(logits.tail_N.detach(), index_M, block),
        )


@final
class _Lazy(TeacherRows):
    def __init__(self, logits: LazyLogits, index_M: Tensor | None) -> None:
        self._given, self._index_M = logits, index_M
        self._shape = shape_of(logits.head)
        shape = self._shape or PLAIN
        self._head = Head(logits.hidden_ND, logits.weight, logits.bias, index_M, shape=shape)
        self.bytes_per_row = self._head.bytes_per_row

    def begin(self, chunk: slice) -> None:
        self._start = chunk.start
        if self._shape is not None:
            _, self._logits_RC = self._head.rows(chunk)
            return
        with torch.no_grad():
            rows = chunk if self._index_M is None else self._index_M[chunk]
            self._logits_RC = self._given.rows(rows).dense()

    def rows(self, block: slice) -> Tensor:
        return upcast(self._logits_RC[block.start - self._start : block.stop - self._start])


@final
class _Foreign(TeacherRows):
    def __init__(self, logits: ForeignLogits, index_M: Tensor | None) -> None:
        self._logits, self._row_N = logits, first_rows(logits)
        device = self._row_N.device
        self._index_M = torch.arange(logits.num_rows, device=device) if index_M is None else index_M
        self.bytes_per_row = 4 * logits.logits.num_classes

    def rows(self, block: slice) -> ForeignRows:
        return foreign_rows(self._logits, self._row_N, self._index_M[block])
