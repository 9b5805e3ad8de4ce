"""Precision, recall and F1 of entities, counted as the CoNLL shared tasks count them."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple, final

import torch
from torch import Tensor
from torchmetrics import Metric

_CHOSEN, _FIRST = 1, 3
_OUTSIDE = "O"


class Entity(NamedTuple):
    """Words from `start` to before `stop` that are one thing of a kind."""

    start: int
    stop: int
    kind: str


class Figure(StrEnum):
    """What is counted of entities."""

    F1 = "f1"
    PRECISION = "precision"
    RECALL = "recall"


def entities(tags: Sequence[str], first: Sequence[bool]) -> Iterator[Entity]:
    """The entities in a row of sentences.

    An entity begins at B-, at a tag of another kind than before, or at I- after none, as in
    `conlleval` (Tjong Kim Sang and Buchholz 2000, section 3); none goes on into the next sentence.
    A tag without a prefix is of a kind of its own name.

    Args:
        tags: O, B-kind, I-kind, one a word.
        first: whether a word is the first of its sentence.
    """
    start, open_kind = 0, ""
    for place, (tag, begins) in enumerate(zip(tags, first, strict=True)):
        prefix, kind = _parts(tag)
        if open_kind and (begins or prefix != "I" or kind != open_kind):
            yield Entity(start, place, open_kind)
            open_kind = ""
        if kind and not open_kind:
            start, open_kind = place, kind
    if open_kind:
        yield Entity(start, len(tags), open_kind)


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and kind; no kind outside of entities."""
    if tag == _OUTSIDE:
        return "", ""
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash and prefix in ("B", "I") else ("I", tag)


@final
class EntityScore(Metric):
    """A figure over all entities together; an entity is found if words and kind are right.

    Args:
        classes: names of the tags.
        figure: which one.
    """

    full_state_update = False
    higher_is_better = True
    right: Tensor
    said: Tensor
    true: Tensor

    def __init__(self, classes: Sequence[str], figure: Figure) -> None:
        super().__init__()
        self.classes, self.figure = tuple(classes), figure
        for name in ("right", "said", "true"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, digest_N4: Tensor, labels_N: Tensor) -> None:
        """Add whole sentences."""
        first = digest_N4[:, _FIRST].bool().tolist()
        said = set(entities(self._names(digest_N4[:, _CHOSEN].long()), first))
        true = set(entities(self._names(labels_N), first))
        self.right += len(said & true)
        self.said += len(said)
        self.true += len(true)

    def compute(self) -> Tensor:
        """The figure; 0 where there is nothing to divide by."""
        below = {
            Figure.F1: (self.said + self.true) / 2,
            Figure.PRECISION: self.said,
            Figure.RECALL: self.true,
        }[self.figure]
        return self.right / below.clamp_min(0.5) if below > 0 else torch.zeros(())

    def _names(self, numbers_N: Tensor) -> list[str]:
        return [self.classes[number] for number in numbers_N.tolist()]
