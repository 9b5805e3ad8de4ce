"""Rules as a module: thresholds on single inputs, and the answer of the first rule that holds.

A decision tree is the case in which exactly one rule holds: one rule for each leaf. The module is
plain tensors, so it is saved, restored, exported and measured as networks are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import ModelError

NEVER = 127  # more conditions than any rule has: a place for a rule that is not used

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


NO_LABEL = -1
"""The label of a row that was made up, or carries none."""


class FitRows(NamedTuple):
    """Rows to fit on.

    Args:
        inputs_NF: float32, in the units of the data.
        targets_NK: float64, probabilities (or values) to be followed.
        labels_N: int64 classes (0 where labels are no classes), or `NO_LABEL`.
    """

    inputs_NF: NDArray[np.float32]
    targets_NK: NDArray[np.float64]
    labels_N: NDArray[np.int64]


class Condition(NamedTuple):
    """`x[feature] <= threshold`, or with `above` its opposite, in the units of the data."""

    feature: int
    threshold: float
    above: bool

    def holds(self, inputs_NF: Floats) -> Bools:
        """`[N]`: for which rows; compared in float32, as the module does."""
        low_N: Bools = inputs_NF[:, self.feature] <= np.float32(self.threshold)
        return ~low_N if self.above else low_N


@final
@dataclass(frozen=True)
class Rule:
    """What is answered where all conditions hold (and those of no earlier rule).

    Args:
        conditions: in the order of the tree, from the root; none for the last rule of a list.
        answer: K logits or values.
        rows: how many rows of the data it decides.
        right: of these, how many are labelled with the class that is answered; `None` if unknown.
    """

    conditions: tuple[Condition, ...]
    answer: tuple[float, ...]
    rows: int
    right: int | None = None


def holding(conditions: Sequence[Condition], inputs_NF: Floats) -> Bools:
    """`[N]`: for which rows all conditions hold."""
    found = np.ones(len(inputs_NF), dtype=np.bool_)
    for condition in conditions:
        found &= condition.holds(inputs_NF)
    return found


def first_holding(rules: Sequence[Sequence[Condition]], inputs_NF: Floats) -> NDArray[np.int64]:
    """`[N]`: the number of the first rule whose conditions all hold; there must be one."""
    held_RN = np.stack([holding(each, inputs_NF) for each in rules])
    return np.asarray(held_RN.argmax(axis=0), dtype=np.int64)


@final
class Rules(nn.Module):
    """Rules of at most so many conditions in all; empty until `fill` or weights are loaded.

    Shapes: `[B, *input_shape]`, flattened to F inputs, to `[B, K]`.

    Args:
        conditions: places for different conditions, I.
        rules: places for rules, R.
        num_outputs: K.
    """

    features_I: Tensor
    signs_IR: Tensor
    needed_R: Tensor

    def __init__(self, *, conditions: int, rules: int, num_outputs: int) -> None:
        super().__init__()
        self.register_buffer("features_I", torch.zeros(conditions, dtype=torch.int64))
        self.thresholds_I = nn.Parameter(torch.zeros(conditions), requires_grad=False)
        self.register_buffer("signs_IR", torch.zeros(conditions, rules, dtype=torch.int8))
        self.register_buffer("needed_R", torch.full((rules,), NEVER, dtype=torch.int16))
        self.answers_RK = nn.Parameter(torch.zeros(rules, num_outputs), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, K]`: the answers of the first rules that hold."""
        seen_BI = inputs.flatten(1).index_select(1, self.features_I)
        low_BI = torch.where(seen_BI <= self.thresholds_I, 1.0, -1.0)
        held_BR = (low_BI @ self.signs_IR.float()) == self.needed_R.float()
        return self.answers_RK.index_select(0, held_BR.float().argmax(dim=1))

    def fill(self, rules: Sequence[Rule], normalised: Sequence[float]) -> None:
        """Take these rules.

        Args:
            rules: as many as there are places, or fewer.
            normalised: the threshold of each different condition (`different`), as inputs are
                given to the module.

        Raises:
            ModelError: there are too few places.
        """
        places = different(rules)
        if len(places) > len(self.features_I) or len(rules) > len(self.needed_R):
            raise ModelError(
                f"{len(rules)} rules with {len(places)} conditions do not fit into a student of "
                f"{len(self.needed_R)} rules with {len(self.features_I)}; make it larger."
            )
        with torch.no_grad():
            for number, ((feature, _), value) in enumerate(zip(places, normalised, strict=True)):
                self.features_I[number] = feature
                self.thresholds_I[number] = value
            for number, rule in enumerate(rules):
                self._fill_one(number, rule, places)

    def _fill_one(self, number: int, rule: Rule, places: Sequence[tuple[int, float]]) -> None:
        conditions = dict.fromkeys(rule.conditions)
        for condition in conditions:
            place = places.index((condition.feature, condition.threshold))
            self.signs_IR[place, number] = -1 if condition.above else 1
        self.needed_R[number] = len(conditions)
        self.answers_RK[number] = torch.tensor(rule.answer)


def different(rules: Sequence[Rule]) -> list[tuple[int, float]]:
    """Each feature and threshold that the rules compare, once."""
    every = ((c.feature, c.threshold) for rule in rules for c in rule.conditions)
    return list(dict.fromkeys(every))
