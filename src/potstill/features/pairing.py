"""Which layer of a student belongs to which of a teacher, where nobody has said so.

A layer is known by its relative depth (the share of the layers with weights that have run when it
ends) and by its size (the side of the square that its positions would fill). Layers of models with
several sizes are the ends of their stages; of models with one size, such as transformers, their
blocks; of models without positions, whatever has weights.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from math import log2, prod, sqrt
from typing import Final, final

from potstill.errors import HandshakeError
from potstill.features.layout import Layout
from potstill.protocols import SeenLayer

AUTO: Final = "auto"
MOST_STAGES: Final = 4
"""Pairs of blocks where every block of a student could be a stage."""


class Wanted(StrEnum):
    """What kind of layers a term means by `auto`."""

    LAST = "last"  # one pair: the last layer with positions
    STAGES = "stages"  # a pair for each stage of the student
    VECTOR = "vector"  # one pair: what goes into the last layer with weights


@final
@dataclass(frozen=True)
class Trace:
    """What was seen of a model, for pairing.

    Args:
        layers: in the order in which they end.
        rows: how many samples the model was run on.
        headless: the last layer is no head whose output would be the answer itself.
        layout: how to read the features; by default from their number of axes.
    """

    layers: tuple[SeenLayer, ...]
    rows: int
    headless: bool = False
    layout: Layout | str | None = None

    def body(self) -> list[SeenLayer]:
        """The layers before the head that give one feature a sample."""
        total = max((layer.ran for layer in self.layers), default=0)
        return [
            layer
            for layer in self.layers
            if (self.headless or layer.ran < total)
            and layer.ran
            and len(layer.shape) in (2, 3, 4)
            and layer.shape[0] == self.rows
        ]

    def depth(self, layer: SeenLayer) -> float:
        """From above 0 to 1, where the body ends."""
        return layer.ran / max((each.ran for each in self.body()), default=1)

    def side(self, layer: SeenLayer) -> int:
        """Of the square that the positions fill; 1 for a vector."""
        shape = layer.shape
        if len(shape) == 2:
            return 1
        last = self.layout in (Layout.MAP_LAST, Layout.TOKENS) or (
            self.layout is None and len(shape) == 3
        )
        return max(1, round(sqrt(prod(shape[1:-1] if last else shape[2:]))))

    def stages(self) -> list[SeenLayer]:
        """The layers that may be paired, in their order: see the head of this file."""
        body = self.body()
        spread = [layer for layer in body if self.side(layer) > 1]
        if not spread:
            return list({layer.ran: layer for layer in body}.values())
        ends: list[SeenLayer] = []
        for _, group in groupby(spread, key=self.side):
            ends.append(_outermost(list(group), ends))
        if len({self.side(end) for end in ends}) == 1:
            return _blocks(spread)
        if len(ends) > 2 and ends[0].ran == 1:
            return ends[1:]  # the first is a stem, which has seen little
        return ends

    def vector(self) -> SeenLayer:
        """What goes into the head.

        Raises:
            HandshakeError: there is nothing before the head.
        """
        body = self.body()
        if not body:
            raise HandshakeError("it has no layer before its head; name one.")
        return body[-1]


def paired(
    student: Trace,
    teacher: Trace,
    *,
    wanted: Wanted,
    student_layers: Sequence[str] | None = None,
    teacher_layers: Sequence[str] | None = None,
) -> tuple[tuple[str, str], ...]:
    """Names of the student's and the teacher's layers that belong together.

    Args:
        student: what was seen of the student.
        teacher: what was seen of the teacher.
        wanted: what kind of layers, where none are given.
        student_layers: those given, whose partners are sought.
        teacher_layers: likewise; not both.

    Raises:
        HandshakeError: a layer that is given was not seen, or there is none to choose.
    """
    if student_layers is not None:
        return tuple((n, _partner(student, n, teacher, wanted)) for n in student_layers)
    if teacher_layers is not None:
        return tuple((_partner(teacher, n, student, wanted), n) for n in teacher_layers)
    if wanted is Wanted.VECTOR:
        return ((student.vector().name, teacher.vector().name),)
    mine = _offered(student, "student")
    if wanted is Wanted.LAST:
        return ((mine[-1].name, _nearest(student, mine[-1], teacher).name),)
    best: dict[str, tuple[float, str]] = {}
    for layer in _thinned(mine):
        other = _nearest(student, layer, teacher)
        cost = _cost(student, layer, teacher, other)
        best[other.name] = min(best.get(other.name, (cost, layer.name)), (cost, layer.name))
    order = [layer.name for layer in mine]
    pairs = [(name, other) for other, (_, name) in best.items()]
    return tuple(sorted(pairs, key=lambda pair: order.index(pair[0])))


def stages_of(model: Trace) -> tuple[str, ...]:
    """Names of a model's stages, of a model of blocks four of them, in their order.

    Raises:
        HandshakeError: there is no layer to choose.
    """
    return tuple(layer.name for layer in _thinned(_offered(model, "student")))


def _outermost(group: list[SeenLayer], earlier: list[SeenLayer]) -> SeenLayer:
    """The last layer of a stage that does not hold an earlier stage as well."""
    names = [layer.name for layer in earlier]
    own = [layer for layer in group if not any(name.startswith(f"{layer.name}.") for name in names)]
    return own[-1] if own else group[-1]


def _partner(one: Trace, name: str, other: Trace, wanted: Wanted) -> str:
    if wanted is Wanted.VECTOR:
        return other.vector().name
    found = next((layer for layer in one.layers if layer.name == name), None)
    if found is None:
        raise HandshakeError(
            f"`{name}` did not run or is no module's name, so nothing can be paired with it; name "
            "both layers."
        )
    return _nearest(one, found, other).name


def _nearest(one: Trace, layer: SeenLayer, other: Trace) -> SeenLayer:
    return min(_offered(other, "other model"), key=lambda o: _cost(one, layer, other, o))


def _cost(one: Trace, layer: SeenLayer, other: Trace, candidate: SeenLayer) -> float:
    """Octaves between the sizes, and four times the difference of the relative depths."""
    sides = one.side(layer), other.side(candidate)
    octaves = 0.0 if 1 in sides else abs(log2(sides[0] / sides[1]))
    return octaves + 4 * abs(one.depth(layer) - other.depth(candidate))


def _offered(trace: Trace, whose: str) -> list[SeenLayer]:
    found = trace.stages()
    if not found:
        raise HandshakeError(
            f"the {whose} shows no layer that could be paired; name one, if it has any."
        )
    return found


def _thinned(layers: list[SeenLayer]) -> list[SeenLayer]:
    if len(layers) <= MOST_STAGES:
        return layers
    places = [-(-len(layers) * (n + 1) // MOST_STAGES) - 1 for n in range(MOST_STAGES)]
    return [layers[place] for place in places]


def _blocks(spread: list[SeenLayer]) -> list[SeenLayer]:
    """The members of the outermost list of at least two like layers; else one for each depth."""
    numbered: dict[str, list[SeenLayer]] = {}
    for layer in spread:
        match = re.fullmatch(r"(.*?)(\d+)", layer.name)
        if match:
            numbered.setdefault(match[1], []).append(layer)
    lists = [g for g in numbered.values() if len(g) > 1 and len({e.shape for e in g}) == 1]
    if lists:
        return min(lists, key=lambda group: (group[0].name.count("."), -len(group)))
    return list({layer.ran: layer for layer in spread}.values())
