"""A penalty on the student's weights, written as a term."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.reductions import upcast
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import Partial, Signals, Target


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class WeightPenalty(ArithmeticTerm):
    r"""The squared length of the student's weights: λ‖W‖² is `λ * WeightPenalty()`.

    Formula: $\sum_w w^2$ over all parameters, once for each row that counts; the division by the
        count makes it $\|W\|^2$, however a step is cut into micro-batches.
    Shapes: parameters of any shape; the value is a single number.
    Paper: Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634.
    Requires: a student whose parameters come with its signals.
    Related: with plain SGD, λ here equals a weight decay of 2 λ in the optimiser; with AdamW the
        two differ. Leave one of them out.
    Example: `ProbabilityMSE() + 1e-4 * WeightPenalty()`
    """

    def needs(self) -> Needs:
        """The student's parameters."""
        return Needs(student_weights=True)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """‖W‖² times the number of rows, and that number."""
        if not student.weights:
            raise HandshakeError(
                "`weight_penalty` needs the student's weights and got none; "
                "train a student with parameters, or drop the term."
            )
        count = self.count(target)
        return Partial(_squared_length(student.weights) * count, count)


def _squared_length(weights: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([upcast(weight).square().sum() for weight in weights]).sum()
