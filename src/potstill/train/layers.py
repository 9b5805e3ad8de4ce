"""Which layers terms compare: `auto` becomes names, and pairs become lines to read."""

from collections.abc import Iterator

from torch import nn

from potstill.errors import HandshakeError
from potstill.features.pairing import Trace
from potstill.features.tracing import traced
from potstill.losses import LayerTerm, Objective
from potstill.losses.layers import Choosing
from potstill.losses.objective import Weighted
from potstill.protocols import Needs, Task, Teacher, Term
from potstill.signals import Batch, LazyLogits, Signals
from potstill.train.dry_run import said_by

_ROWS = 2


def has_open_layers(objective: Objective) -> bool:
    """Whether a term's layers are still to be chosen."""
    return any(isinstance(term, Choosing) and term.is_open for _, term in objective)


def objective_with_layers(
    objective: Objective, student: nn.Module, teacher: Teacher | None, *, task: Task, batch: Batch
) -> Objective:
    """The same objective with names of layers where terms said `auto`.

    Equivalent to running both models on two samples and asking `potstill.features.paired`; an
    objective without `auto` comes back as it is, at no cost. The choice depends on the two
    architectures and the size of the inputs alone.

    Args:
        objective: any.
        student: the module.
        teacher: shows its layers in order (`Teacher.trace`).
        task: how the student is called.
        batch: of training data, on the models' device.

    Raises:
        HandshakeError: nothing can be chosen, and why.
    """
    if not has_open_layers(objective):
        return objective
    few = batch.rows(slice(0, _ROWS))
    with traced(student) as seen:
        said = said_by(student, Needs(), task, few)
    headless = isinstance(said.logits, LazyLogits) or task.kind == "embedding"
    mine = Trace(tuple(seen), rows=len(few), headless=headless)
    shown = () if teacher is None else teacher.trace(few)
    theirs = Trace(shown, rows=len(few), headless=headless)
    return Objective(tuple(Weighted(w, _named(term, mine, theirs)) for w, term in objective))


def describe_pairs(objective: Objective, student: Signals, teacher: Signals) -> Iterator[str]:
    """A line for each pair of layers, with the projector between them."""
    for _, term in objective:
        if isinstance(term, LayerTerm):
            yield from (f"{term.name}: {line}" for line in term.describe(student, teacher))
            continue
        describe = getattr(term.parts(), "describe", None)
        if describe is not None:
            needs = term.needs()
            names = zip(needs.student_layers, needs.teacher_layers, strict=False)
            pairs = ", ".join(f"{s} → {t}" for s, t in names) or ", ".join(needs.student_layers)
            yield f"{term.name}: {pairs}: {describe()}"


def _named(term: Term, student: Trace, teacher: Trace) -> Term:
    if not isinstance(term, Choosing) or not term.is_open:
        return term
    try:
        return term.named(student, teacher)
    except HandshakeError as error:
        raise HandshakeError(f"This cannot be trained:\n  - {term.name}: {error}") from error
