"""Terms on layers: which layers, in pairs, by name or chosen in the handshake."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from potstill.errors import HandshakeError, RecipeError
from potstill.features.layout import Layout
from potstill.features.pairing import AUTO, Trace, Wanted, paired
from potstill.functional.reductions import sum_rows
from potstill.losses.checks import check_choice
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs, Term
from potstill.signals import Signals, Target

Layers = str | tuple[str, ...]


@runtime_checkable
class Choosing(Protocol):
    """A term whose layers may be left to the handshake."""

    @property
    def is_open(self) -> bool:
        """Whether layers are still to be chosen."""
        ...

    def named(self, student: Trace, teacher: Trace) -> Term:
        """A copy in which `auto` has become names."""
        ...


@dataclass(frozen=True, repr=False)
class LayerTerm(ArithmeticTerm):
    """A term on one or more pairs of layers. The base of all whose layers `auto` may choose.

    Attributes:
        wanted: which layers `auto` means.

    Args:
        student_layer: name of a module of the student, several of them in order, or "auto".
        teacher_layer: as many of the teacher, or "auto". What is given finds its partner.
        student_layout: how to read the student's features; by default from their number of axes.
        teacher_layout: how to read the teacher's features.
    """

    wanted: ClassVar[Wanted] = Wanted.LAST

    student_layer: Layers = AUTO
    teacher_layer: Layers = AUTO
    student_layout: Layout | str | None = field(default=None, kw_only=True)
    teacher_layout: Layout | str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for side in ("student_layout", "teacher_layout"):
            layout = getattr(self, side)
            if layout is not None:
                object.__setattr__(self, side, check_choice(self, side, layout, Layout))
        for side in ("student_layer", "teacher_layer"):
            object.__setattr__(self, side, names_of(self, side, getattr(self, side)))
        mine, theirs = listed(self.student_layer), listed(self.teacher_layer)
        if mine is not None and theirs is not None and len(mine) != len(theirs):
            raise RecipeError(
                f"`{type(self).__name__}` got {len(mine)} layers of the student and {len(theirs)} "
                "of the teacher; they are paired in order, so give as many of each."
            )

    @property
    def is_open(self) -> bool:
        """Whether layers are still to be chosen."""
        return AUTO in (self.student_layer, self.teacher_layer)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The names of the student's and the teacher's layers."""
        mine, theirs = listed(self.student_layer), listed(self.teacher_layer)
        return tuple(zip(mine or (AUTO,), theirs or (AUTO,), strict=False))

    def needs(self) -> Needs:
        """The layers of all pairs; none while they are to be chosen."""
        if self.is_open:
            return Needs()
        pairs = self.pairs()
        return Needs(
            student_layers=tuple(mine for mine, _ in pairs),
            teacher_layers=tuple(theirs for _, theirs in pairs),
        )

    def named(self, student: Trace, teacher: Trace) -> Self:
        """A copy in which `auto` has become names.

        Args:
            student: what was seen of the student.
            teacher: what was seen of the teacher.

        Raises:
            HandshakeError: nothing can be chosen, or the teacher shows no layers.
        """
        if not self.is_open:
            return self
        if not teacher.layers:
            raise HandshakeError(
                f"its layers are `{AUTO}`, and this teacher does not show its layers in order. "
                "Name `student_layer` and `teacher_layer`, or give a teacher that is a torch "
                "module."
            )
        pairs = paired(
            replace(student, layout=self.student_layout),
            replace(teacher, layout=self.teacher_layout),
            wanted=self.wanted,
            student_layers=listed(self.student_layer),
            teacher_layers=listed(self.teacher_layer),
        )
        mine, theirs = tuple(m for m, _ in pairs), tuple(t for _, t in pairs)
        if len(pairs) == 1:
            return replace(self, student_layer=mine[0], teacher_layer=theirs[0])
        return replace(self, student_layer=mine, teacher_layer=theirs)

    def features(self, student: Signals, teacher: Signals, number: int) -> tuple[Tensor, Tensor]:
        """What the two layers of a pair give, the teacher's as a constant.

        Raises:
            HandshakeError: a model was not asked for its layer.
        """
        mine, theirs = self.pairs()[number]
        return (
            feature_of(self, student, mine, of="student"),
            feature_of(self, teacher, theirs, of="teacher").detach(),
        )

    def describe(self, student: Signals, teacher: Signals) -> Iterator[str]:
        """A line for each pair: names, shapes, and what lies between them."""
        for mine, theirs in self.pairs():
            shapes = student.features[mine].shape[1:], teacher.features[theirs].shape[1:]
            yield f"{mine} → {theirs}: {list(shapes[0])} → {list(shapes[1])}, no projector"

    def check_named(self) -> None:
        """Raise `HandshakeError` while layers are to be chosen."""
        if self.is_open:
            raise not_chosen(self.name)


def not_chosen(term: str) -> HandshakeError:
    """What a term says that is used before its layers have names."""
    return HandshakeError(
        f"The layers of `{term}` are `{AUTO}` and nobody has chosen them; a `Distiller` does, your "
        "own loop names them (`objective_with_layers`)."
    )


def feature_of(term: ArithmeticTerm, signals: Signals, layer: str, *, of: str) -> Tensor:
    """A layer's output; `HandshakeError` if the model was not asked for it."""
    if layer not in signals.features:
        listed = ", ".join(f"`{name}`" for name in signals.features) or "no layer at all"
        raise HandshakeError(
            f"`{term.name}` needs the {of}'s layer `{layer}` and got {listed}; "
            "name a layer that the model has."
        )
    return signals.features[layer]


def positions_of(feature: Tensor, target: Target) -> Tensor | None:
    """Which positions of a feature `[B, D, L]` count; `None` where there is no padding in it."""
    positions_BL = target.positions
    if positions_BL is None or tuple(positions_BL.shape) != (len(feature), *feature.shape[2:]):
        return None
    return positions_BL


def total_of(
    losses_B: Tensor, target: Target, mask_B: Tensor | None, count: Tensor | int
) -> Tensor:
    """The sum of the samples' losses: each counts as often as it has rows, or by their weights."""
    if target.samples is not None:
        rows_B = torch.bincount(target.samples, target.weights, minlength=len(losses_B))
        return (losses_B * rows_B.to(losses_B.dtype)).sum()
    if len(losses_B) == target.num_rows:
        if target.weights is not None:
            losses_B = losses_B * target.weights
        return sum_rows(losses_B, mask_B)
    return losses_B.mean() * count


def names_of(term: ArithmeticTerm, side: str, given: object) -> Layers:
    """A name, several in order, or "auto"; `RecipeError` for anything else."""
    if isinstance(given, str) and given:
        return given
    if isinstance(given, Sequence) and given and all(isinstance(n, str) and n for n in given):
        return given[0] if len(given) == 1 else tuple(given)
    raise RecipeError(
        f"`{type(term).__name__}` got {side}={given!r}; give the name of a layer, a list of names, "
        f'or "{AUTO}".'
    )


def listed(layers: Layers) -> tuple[str, ...] | None:
    """The names; `None` while they are to be chosen."""
    if layers == AUTO:
        return None
    return (layers,) if isinstance(layers, str) else layers
