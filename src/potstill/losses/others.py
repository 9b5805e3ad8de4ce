"""Rows of a teacher with other tokens, brought to the student's rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from potstill.functional.reductions import upcast
from potstill.signals import ForeignLogits, LazyLogits


class ForeignRows(NamedTuple):
    """Rows of a teacher with other tokens, as far as they begin at the same byte.

    Args:
        values_NV: its logits; without meaning where there are none.
        present_N: bool, where there are.
        rows_N: int64, which of the student's rows these are.
    """

    values_NV: Tensor
    present_N: Tensor
    rows_N: Tensor


def first_rows(logits: ForeignLogits) -> Tensor:
    """`[N]`: the teacher's row that begins where the student's does; -1 where none does."""
    spans = logits.spans
    row_N = spans.student_rows_SA.new_full((logits.num_rows,), -1)
    return row_N.index_put((spans.student_rows_SA[:, 0],), spans.teacher_rows_SB[:, 0])


def foreign_rows(logits: ForeignLogits, row_N: Tensor, which_R: Tensor) -> ForeignRows:
    """The teacher's logits for some of the student's rows."""
    row_R = row_N[which_R]
    with torch.no_grad():
        inner, index_R = logits.logits, row_R.clamp(min=0)
        rows = inner.rows(index_R) if isinstance(inner, LazyLogits) else inner
        values_RV = rows.values_NC if rows is not inner else rows.values_NC[index_R]
    return ForeignRows(upcast(values_RV.detach()), row_R >= 0, which_R)
