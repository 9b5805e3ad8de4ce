"""The objective: a weighted sum of terms, and the only place where a loss is divided."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor, nn

from potstill.errors import HandshakeError, RecipeError
from potstill.functional.reductions import divide
from potstill.losses.ramps import Ramp
from potstill.losses.written import number_as_written as number_as_written
from potstill.protocols import Needs, Term
from potstill.signals import LazyLogits, Signals, Target


class Weighted(NamedTuple):
    """A term and what it is multiplied with, a number or a `Ramp`."""

    weight: float | Ramp
    term: Term

    def __repr__(self) -> str:
        if isinstance(self.weight, Ramp):
            return f"{self.weight!r} * {self.term!r}"
        if self.weight == 1:
            return repr(self.term)
        return f"{number_as_written(self.weight)} * {self.term!r}"


class ObjectiveValue(NamedTuple):
    """The loss of one (micro-)batch and what each term added to it.

    `terms` are detached, already weighted and divided: they add up to `loss`.
    """

    loss: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True, repr=False)
class Objective:
    """A weighted sum of terms: `0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`.

    Equivalent to `sum(weight * total / count)` with each term's own total and count. It prints as
    the code that makes it.

    Args:
        summands: weights and terms, in order. Weights are finite and not negative.

    Raises:
        RecipeError: no term, or a weight that cannot teach.
    """

    summands: tuple[Weighted, ...]

    def __post_init__(self) -> None:
        if not self.summands:
            raise RecipeError("An objective needs at least one term, for example `CrossEntropy()`.")
        object.__setattr__(self, "summands", tuple(Weighted(*summand) for summand in self.summands))
        for weight, term in self.summands:
            _check_weight(weight, term)

    def __call__(
        self,
        student: Signals,
        teacher: Signals,
        target: Target,
        counts: Sequence[Tensor | int] | None = None,
    ) -> ObjectiveValue:
        """The loss of a batch, or the share of a micro-batch in the loss of its step.

        Args:
            student: carries gradient.
            teacher: is read as a constant.
            target: what the data say about the rows.
            counts: one for each term: the rows of the whole optimiser step on all ranks, as added
                up from `counts(target)`. Without it, this batch is the step.
        """
        if self.moves:
            return self.during(0.0)(student, teacher, target, counts)
        if isinstance(student.logits, LazyLogits):
            from potstill.losses.lazy import lazy_shares  # which knows of row-wise terms

            counts = self.counts(target) if counts is None else counts
            loss, shares = lazy_shares(self.summands, student, teacher, target, counts)
            return ObjectiveValue(loss, dict(zip(self.names, shares, strict=True)))
        partials = [term(student, teacher, target) for _, term in self.summands]
        if counts is None:
            counts = [partial.count for partial in partials]
        shares = [
            plain_number(weight) * divide(partial.total, count)
            for (weight, _), partial, count in zip(self.summands, partials, counts, strict=True)
        ]
        loss = shares[0]
        for share in shares[1:]:
            loss = loss + share
        terms = {name: s.detach() for name, s in zip(self.names, shares, strict=True)}
        return ObjectiveValue(loss, terms)

    @cached_property
    def moves(self) -> bool:
        """Whether a weight or an option changes as the training goes on."""
        return any(isinstance(weight, Ramp) or term.moves for weight, term in self.summands)

    def during(self, share: float) -> "Objective":
        """The objective when this share of all steps is over, of plain numbers.

        One that moves is, called by itself, the one that it starts as.
        """
        if not self.moves:
            return self
        return Objective(
            tuple(
                Weighted(weight.at(share) if isinstance(weight, Ramp) else weight, t.during(share))
                for weight, t in self.summands
            )
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys that the terms are logged under; a second `kd` is `kd_2`."""
        names: list[str] = []
        seen: dict[str, int] = {}
        for _, term in self.summands:
            seen[term.name] = seen.get(term.name, 0) + 1
            names.append(term.name if seen[term.name] == 1 else f"{term.name}_{seen[term.name]}")
        return tuple(names)

    def counts(self, target: Target) -> tuple[Tensor | int, ...]:
        """How many rows each term will count, known before any model has run."""
        return tuple(term.count(target) for _, term in self.summands)

    def needs(self) -> Needs:
        """What all terms need together.

        Raises:
            HandshakeError: two terms are for different kinds of targets.
        """
        return merged_needs([(term.name, term.needs()) for _, term in self.summands])

    def bind(self, student: Signals, teacher: Signals) -> "Objective":
        """A copy whose projectors are made for these signals (from one dry batch)."""
        return Objective(
            tuple(Weighted(weight, term.bind(student, teacher)) for weight, term in self.summands)
        )

    def parts(self) -> nn.ModuleList:
        """The learnable parts of all terms; they train with the student and are then dropped."""
        parts = (term.parts() for _, term in self.summands)
        return nn.ModuleList([part for part in parts if part is not None])

    def trusting(self, share: float) -> "Objective":
        """The same with that share of the weight of each term that needs a teacher."""
        return Objective(
            tuple(
                Weighted(share * weight if needs_teacher(term.needs()) else weight, term)
                for weight, term in self.summands
            )
        )

    def __iter__(self) -> Iterator[Weighted]:
        return iter(self.summands)

    def __len__(self) -> int:
        return len(self.summands)

    def __add__(self, other: "Objective | Term") -> "Objective":
        addend = as_objective(other)
        return NotImplemented if addend is None else Objective(self.summands + addend.summands)

    def __radd__(self, other: "Objective | Term | int") -> "Objective":
        if isinstance(other, int) and other == 0:  # the start value of `sum`
            return self
        addend = as_objective(other)
        return NotImplemented if addend is None else Objective(addend.summands + self.summands)

    def __mul__(self, factor: float | Ramp) -> "Objective":
        if not isinstance(factor, int | float | Ramp) or isinstance(factor, bool):
            return NotImplemented
        return Objective(tuple(Weighted(_product(factor, w), term) for w, term in self.summands))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return " + ".join(repr(summand) for summand in self.summands)


def as_objective(value: object) -> Objective | None:
    """An objective as it is, a term with weight 1; `None` for anything else."""
    if isinstance(value, Objective):
        return value
    return Objective((Weighted(1, value),)) if isinstance(value, Term) else None


def objective_of(value: object) -> Objective:
    """An objective as it is, or a term with weight 1.

    Raises:
        RecipeError: it is neither.
    """
    found = as_objective(value)
    if found is None:
        raise RecipeError(
            f"{type(value).__name__} is no objective; write terms and weights, for example "
            "`0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`."
        )
    return found


def needs_teacher(needs: Needs) -> bool:
    """Whether a teacher is asked at all."""
    logits = needs.teacher_logits or needs.raw_teacher_logits
    return logits or needs.teacher_members or needs.teacher_places or bool(needs.teacher_layers)


def merged_needs(needs: Sequence[tuple[str, Needs]]) -> Needs:
    """What several terms, given with their names, need together."""
    each = [need for _, need in needs]
    return Needs(
        student_logits=any(need.student_logits for need in each),
        teacher_logits=any(need.teacher_logits for need in each),
        raw_teacher_logits=any(need.raw_teacher_logits for need in each),
        teacher_members=any(need.teacher_members for need in each),
        sparse_teacher=all(need.sparse_teacher for need in each if need.teacher_logits),
        foreign_teacher=all(need.foreign_teacher for need in each if need.teacher_logits),
        labels=any(need.labels for need in each),
        class_labels=any(need.class_labels for need in each),
        teacher_places=any(need.teacher_places for need in each),
        drawn=any(need.drawn for need in each),
        student_layers=tuple(dict.fromkeys(n for need in each for n in need.student_layers)),
        teacher_layers=tuple(dict.fromkeys(n for need in each for n in need.teacher_layers)),
        student_weights=any(need.student_weights for need in each),
        second_view=any(need.second_view for need in each),
        chance=any(need.chance for need in each),
        min_classes=max(need.min_classes for need in each),
        kinds=_common_kinds(needs),
    )


def _common_kinds(needs: Sequence[tuple[str, Needs]]) -> frozenset[str]:
    choosy = [(name, need.kinds) for name, need in needs if need.kinds]
    if not choosy:
        return frozenset()
    common = frozenset.intersection(*(kinds for _, kinds in choosy))
    if not common:
        listed = "; ".join(f"`{name}` is for {' or '.join(sorted(k))}" for name, k in choosy)
        raise HandshakeError(f"No kind of target suits all terms: {listed}. Drop one of them.")
    return common


def plain_number(weight: float | Ramp) -> float:
    """The weight of an objective that does not move (any more)."""
    assert not isinstance(weight, Ramp), "an objective that moves is asked for its present form"
    return weight


def _product(factor: float | Ramp, weight: float | Ramp) -> float | Ramp:
    if isinstance(factor, Ramp) and isinstance(weight, Ramp):
        raise RecipeError("A weight that moves cannot be multiplied by another one that does.")
    return factor * weight  # type: ignore[operator]  # at most one of them is a ramp


def _check_weight(weight: object, term: Term) -> None:
    if isinstance(weight, Ramp):
        _check_weight(weight.start, term)
        _check_weight(weight.end, term)
        return
    given = f"The weight of `{term.name}` is {weight!r}; "
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise RecipeError(given + "give a finite number of 0 or more.")
    if weight < 0:
        raise RecipeError(given + "a negative weight would unteach, give 0 or more.")
