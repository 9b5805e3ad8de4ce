"""How likely a teacher with other tokens finds the student's labels, span by span.

Shapes: N student rows, S spans, V tokens of the teacher.
"""

import math

import torch
from torch import Tensor

from potstill.signals import ForeignLogits, LazyLogits, Logits

_ROWS = 512  # of the teacher that are looked at together


def digest_foreign(logits: ForeignLogits) -> Tensor:
    """`[N, 3]` float32: as `token_rows.digest_of_rows`, in the student's tokens.

    The first row of a span has -log p of the whole span (in the teacher's tokens), later rows 0, so
    that their sum over a text is the teacher's -log p of that text. Rows in no span have that of a
    guess among all tokens. The likeliest token is -1 where it is none of the student's, and in rows
    that begin no span.
    """
    spans = logits.spans
    rows_SA, there_SB = spans.student_rows_SA, spans.teacher_rows_SB >= 0
    digest_N3 = torch.zeros(logits.num_rows, 3, device=rows_SA.device)
    digest_N3[:, 0], digest_N3[:, 1] = math.log(logits.num_classes), -1
    if not len(spans):
        return digest_N3
    rows_L, ids_L = spans.teacher_rows_SB[there_SB], spans.teacher_ids_SB[there_SB]
    said_L3 = torch.cat(
        [
            _digest(logits.logits, rows_L[start : start + _ROWS], ids_L[start : start + _ROWS])
            for start in range(0, len(rows_L), _ROWS)
        ]
    )
    said_SB3 = torch.zeros(*there_SB.shape, 3, device=rows_SA.device)
    said_SB3[there_SB] = said_L3
    digest_N3[rows_SA[rows_SA >= 0], 0] = 0
    first_S = rows_SA[:, 0]
    digest_N3[first_S, 0] = said_SB3[..., 0].sum(dim=1)
    digest_N3[first_S, 1] = _in_students(logits, said_SB3[:, 0, 1].long()).float()
    digest_N3[first_S, 2] = said_SB3[:, 0, 2]
    return digest_N3


def _digest(logits: Logits | LazyLogits, rows_R: Tensor, ids_R: Tensor) -> Tensor:
    """`[R, 3]`: -log p of the tokens, the likeliest ones, and their p."""
    if isinstance(logits, LazyLogits):
        scores_RV = logits.rows(rows_R).values_NC
    else:
        scores_RV = logits.values_NC[rows_R]
    log_RV = scores_RV.detach().float().log_softmax(dim=-1)
    highest_R, chosen_R = log_RV.max(dim=-1)
    said_R = log_RV.gather(1, ids_R[:, None])[:, 0]
    return torch.stack([-said_R, chosen_R.float(), highest_R.exp()], dim=1)


def _in_students(logits: ForeignLogits, chosen_S: Tensor) -> Tensor:
    """The student's numbers of the teacher's tokens; -1 where it has none."""
    common = logits.common
    students_V = torch.full((logits.logits.num_classes,), -1, device=chosen_S.device)
    students_V[common.teacher_ids_J] = common.student_ids_J
    return students_V[chosen_S]
