"""Terms on logits that are not computed yet: which rows, which terms together, and one pass.

N rows of the target, of which M count for at least one term.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from potstill.functional.heads import PLAIN, shape_of
from potstill.functional.reductions import keep_rows
from potstill.losses.chunks import Pass, Scaled, evaluate
from potstill.losses.objective import Weighted, plain_number
from potstill.losses.rows import ABSENT, RowTerm, check_rows
from potstill.signals import LazyLogits, Logits, Partial, Signals, Target


def lazy_total(term: RowTerm, logits: LazyLogits, teacher: Signals, target: Target) -> Partial:
    """The sum over rows and its count, as `term` gives them for the same logits when dense."""
    if shape_of(logits.head) is None:
        return term(Signals(logits=Logits(logits.dense())), teacher, target)
    total, _ = _in_one_pass([(term, 1.0)], logits, teacher, target)
    return Partial(total, term.count(target))


def lazy_shares(
    summands: Sequence[Weighted],
    student: Signals,
    teacher: Signals,
    target: Target,
    counts: Sequence[Tensor | int],
) -> tuple[Tensor, list[Tensor]]:
    """The loss of an objective, and each summand's share in it, detached, in order.

    All row-wise terms share one pass, so the head is computed once. Terms that compare rows with
    each other get dense logits and need the memory for them; so do all terms if the head does more
    than its weight and bias say and than a scale or a cap of each logit.
    """
    assert isinstance(student.logits, LazyLogits)
    together: dict[int, RowTerm] = {}
    if shape_of(student.logits.head) is not None:
        together = {i: t for i, (_, t) in enumerate(summands) if isinstance(t, RowTerm)}
    dense = student
    if len(together) < len(summands):
        dense = replace(student, logits=Logits(student.logits.dense()))
    weights = [plain_number(weight) for weight, _ in summands]
    scales = [_scale(weight, count) for weight, count in zip(weights, counts, strict=True)]
    losses: list[Tensor] = []
    shares: dict[int, Tensor] = {}
    if together:
        scaled = [(term, scales[i]) for i, term in together.items()]
        loss, shares_J = _in_one_pass(scaled, student.logits, teacher, target)
        losses.append(loss)
        shares.update(zip(together, shares_J.unbind(), strict=True))
    for i in set(range(len(summands))) - shares.keys():
        losses.append(summands[i].term(dense, teacher, target).total * scales[i])
        shares[i] = losses[-1].detach()
    return torch.stack(losses).sum(), [shares[i] for i in range(len(summands))]


def _scale(weight: float, count: Tensor | int) -> Tensor | float:
    if isinstance(count, Tensor):
        return weight / count.clamp(min=1)
    return weight / max(count, 1)


def _in_one_pass(
    terms: Sequence[tuple[RowTerm, Tensor | float]],
    logits: LazyLogits,
    teacher: Signals,
    target: Target,
) -> tuple[Tensor, Tensor]:
    """The scaled sum of all terms, with gradient, and of each, `[J]`, without."""
    absents = [term.needs().labels and target.labels is None for term, _ in terms]
    active = [term for (term, _), absent in zip(terms, absents, strict=True) if not absent]
    for term in active:
        check_rows(term, logits, teacher.logits, target)
    terms = [(term.beside(logits, teacher.logits, target), scale) for term, scale in terms]
    index_M, labelled_M = _rows_that_count(active, target)
    labels = ABSENT
    if target.labels is not None and any(term.needs().labels for term in active):
        labels = target.labels if index_M is None else target.labels[index_M]
        if not any(term.needs().drawn for term in active):  # which have labels of their own
            labels = keep_rows(labels, labelled_M)
    work = Pass(
        terms=tuple(
            Scaled(term, scale, labelled_M if term.needs().labelled_rows else None, absent)
            for (term, scale), absent in zip(terms, absents, strict=True)
        ),
        teacher=teacher.logits if any(term.needs().teacher_logits for term in active) else None,
        labels=labels,
        index_M=index_M,
        chunk_rows=logits.chunk_rows,
        weights_M=_picked(target.weights, index_M),
        shape=shape_of(logits.head) or PLAIN,
    )
    return evaluate(logits.hidden_ND, logits.weight, logits.bias, work)


def _picked(weights_N: Tensor | None, index_M: Tensor | None) -> Tensor | None:
    return weights_N if weights_N is None or index_M is None else weights_N[index_M]


def _rows_that_count(
    terms: Sequence[RowTerm], target: Target
) -> tuple[Tensor | None, Tensor | None]:
    """The rows that any term counts, and which of them carry a label; `None` for all.

    Finding them waits once for the device, which the rows that need no head are worth.
    """
    all_need_labels = all(term.needs().labelled_rows for term in terms)
    mask_N = target.mask(labels=all_need_labels)
    index_M = None if mask_N is None else mask_N.nonzero()[:, 0]
    if all_need_labels or target.labelled is None:
        return index_M, None
    return index_M, target.labelled if index_M is None else target.labelled[index_M]
