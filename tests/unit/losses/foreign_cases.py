"""Two tokenisations of one text, and what terms should say about them, in plain Python loops."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from potstill.signals import CommonTokens, ForeignLogits, Logits, Spans

from . import oracles

Row = Sequence[float]
TINY = math.log(torch.finfo(torch.float32).tiny)

# The student has 6 tokens and the teacher 7; 4 are common (student 0 1 2 5 are teacher 3 1 0 6).
COMMON = CommonTokens(
    student_ids_J=torch.tensor([0, 1, 2, 5]),
    teacher_ids_J=torch.tensor([3, 1, 0, 6]),
    student_rest=torch.tensor([3, 4]),
    teacher_rest=torch.tensor([2, 4, 5]),
)
# (student rows, student tokens, teacher rows, teacher tokens)
SPANS = [
    ((0,), (1,), (0,), (1,)),  # the same token
    ((1, 2), (3, 0), (1,), (5,)),  # two tokens for one that the student does not have
    ((3,), (4,), (2, 3, 4), (2, 1, 0)),  # one that the teacher does not have
    ((5, 6, 7), (0, 4, 1), (5, 6), (4, 3)),  # several on both sides
    ((8, 9), (2, 1), (7,), (6,)),  # a common token of the teacher, written in two by the student
    ((10,), (5,), (8, 9), (0, 2)),  # a common token of the student, written in two by the teacher
    ((12,), (2,), (10,), (0,)),
]  # row 11 of the student has no partner
N, C, M, V = 13, 6, 11, 7


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows])


def foreign(teacher: object, spans: Sequence[tuple] = SPANS, common=COMMON, n=N, c=C):
    columns = [padded(column) for column in zip(*spans, strict=True)]
    logits = Logits(teacher) if isinstance(teacher, Tensor) else teacher
    return ForeignLogits(logits, Spans(*columns), common, num_rows=n, num_classes=c)


def bins(probs: Row, ids: Sequence[int], rest: Sequence[int], span: tuple | None) -> list[float]:
    """Common tokens, the others, the span. `span`: first token, p of the others, its bin."""
    probs, extra = list(probs), [0.0] * (len(ids) + 2)
    if span is not None:
        token, later, place = span
        extra[place] += probs[token] * later
        probs[token] *= 1 - later
    made = [probs[i] for i in ids] + [sum(probs[i] for i in rest), 0.0]
    return [a + b for a, b in zip(made, extra, strict=True)]


def kl(p: Row, q: Row) -> float:
    return sum(a * (math.log(a) - max(math.log(b) if b else TINY, TINY))
               for a, b in zip(p, q, strict=True) if a > 0)  # fmt: skip


def reverse(p: Row, q: Row) -> float:
    return kl(q, p)


def sorted_l1(p: Row, q: Row) -> float:
    size = max(len(p), len(q))
    p, q = (sorted([*row, *[0.0] * (size - len(row))], reverse=True) for row in (p, q))
    return sum(abs(a - b) for a, b in zip(p, q, strict=True))


def total(
    student: Sequence[Row], teacher: Sequence[Row], *, temperature: float, weight: float,
    divergence=kl, spans: Sequence[tuple] = SPANS,
) -> float:  # fmt: skip
    """What `CrossTokenizerKD` sums up, with all rows of a span free to move."""
    q = [oracles.softmax(row, temperature) for row in student]
    p = [oracles.softmax(row, temperature) for row in teacher]
    mine, theirs = COMMON.student_ids_J.tolist(), COMMON.teacher_ids_J.tolist()
    my_rest, their_rest = COMMON.student_rest.tolist(), COMMON.teacher_rest.tolist()
    loss = 0.0
    for rows, tokens, their_rows, their_tokens in spans:
        one, their_one = len(rows) == 1, len(their_rows) == 1
        place = len(mine) + 1
        if their_one and their_tokens[0] in theirs:
            place = theirs.index(their_tokens[0])
        if one and tokens[0] in mine:
            place = mine.index(tokens[0])
        later = math.prod(q[r][t] for r, t in zip(rows[1:], tokens[1:], strict=True))
        taught = math.prod(p[r][t] for r, t in zip(their_rows[1:], their_tokens[1:], strict=True))
        simple = one and their_one
        q_bins = bins(q[rows[0]], mine, my_rest, None if simple else (tokens[0], later, place))
        p_bins = bins(
            p[their_rows[0]], theirs, their_rest,
            None if simple else (their_tokens[0], taught, place),
        )  # fmt: skip
        loss += weight * divergence(p_bins, q_bins)
        q_rest, p_rest = (
            [b[i] * (1 - (s[1] if s and s[0] == i else 0)) for i in ids]
            for b, ids, s in (
                (q[rows[0]], my_rest, None if simple else (tokens[0], later)),
                (p[their_rows[0]], their_rest, None if simple else (their_tokens[0], taught)),
            )
        )
        loss += (1 - weight) * sorted_l1(p_rest, q_rest)
    return temperature**2 * loss
