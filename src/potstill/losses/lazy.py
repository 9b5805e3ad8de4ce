"""Terms on logits that are not computed yet: which rows, which terms together, and one pass.

N rows of the target, of which M count for at least one term.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from potstill.functional.reductions import keep_rows
from potstill.losses.chunks import Pass, Scaled, evaluate
from potstill.losses.objective import Weighted
from potstill.losses.rows import ABSENT, RowTerm, check_rows
from potstill.signals import LazyLogits, Logits, Partial, Signals, Target


def lazy_total(term: RowTerm, logits: LazyLogits, teacher: Signals, target: Target) -> Partial:
    """The sum over rows and its count, as `term` gives them for the same logits when dense."""
    if not is_plain(logits.head):
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

    All row-wise terms share one pass, so the head is computed once. Others, which compare rows
    with each other, get the dense logits and need the memory for them.
    """
    assert isinstance(student.logits, LazyLogits)
    row_wise = [i for i, (_, term) in enumerate(summands) if isinstance(term, RowTerm)]
    scaled = [(summands[i].term, _scale(summands[i].weight, counts[i])) for i in row_wise]
    shares: dict[int, Tensor] = {}
    losses: list[Tensor] = []
    if scaled:
        loss, shares_J = _in_one_pass(scaled, student.logits, teacher, target)  # type: ignore[arg-type]
        losses.append(loss)
        shares.update(zip(row_wise, shares_J.unbind(), strict=True))
    for i, (weight, term) in enumerate(summands):
        if i not in shares:
            share = term(student, teacher, target).total * _scale(weight, counts[i])
            losses.append(share)
            shares[i] = share.detach()
    return torch.stack(losses).sum(), [shares[i] for i in range(len(summands))]


def is_plain(head: nn.Module) -> bool:
    """Whether a head is what its weight and bias say, so that it can be computed in parts."""
    return isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward


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
    index_M, labelled_M = _rows_that_count(active, target)
    labels = ABSENT
    if target.labels is not None and any(term.needs().labels for term in active):
        labels = target.labels if index_M is None else target.labels[index_M]
        labels = keep_rows(labels, labelled_M)
    work = Pass(
        terms=tuple(
            Scaled(term, scale, labelled_M if term.needs().labels else None, absent)
            for (term, scale), absent in zip(terms, absents, strict=True)
        ),
        teacher=teacher.logits if any(term.needs().teacher_logits for term in active) else None,
        labels=labels,
        index_M=index_M,
        chunk_rows=logits.chunk_rows,
    )
    return evaluate(logits.hidden_ND, logits.head.weight, logits.head.bias, work)


def _rows_that_count(
    terms: Sequence[RowTerm], target: Target
) -> tuple[Tensor | None, Tensor | None]:
    """The rows that any term counts, and which of them carry a label; `None` for all.

    Finding them waits once for the device, which the rows that need no head are worth.
    """
    all_need_labels = all(term.needs().labels for term in terms)
    mask_N = target.mask(labels=all_need_labels)
    index_M = None if mask_N is None else mask_N.nonzero()[:, 0]
    if all_need_labels or target.labelled is None:
        return index_M, None
    return index_M, target.labelled if index_M is None else target.labelled[index_M]
