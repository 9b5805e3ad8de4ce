"""Terms that learn from the labels of the data: the supervised half of an objective."""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.closed_forms import cross_entropy_gradient
from potstill.losses.checks import check_number
from potstill.losses.rows import ONE_OF_MANY, RowTerm
from potstill.protocols import Needs

_CLASSES = Needs(student_logits=True, labels=True, min_classes=2, kinds=ONE_OF_MANY)
_SEVERAL = Needs(student_logits=True, labels=True, kinds=frozenset({"multi_label"}))


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class CrossEntropy(RowTerm):
    r"""Cross entropy between the labels and the student's class probabilities.

    Equivalent to `torch.nn.functional.cross_entropy`, summed over rows.

    Formula: $-\sum_c y_c \log q_c$ with $q = \mathrm{softmax}(z_s)$; $y$ is one-hot or soft, and
        smoothed to $(1 - \epsilon) y + \epsilon / C$. With class weights w a row counts
        $\sum_c w_c y_c$ times.
    Shapes: student logits `[N, C]`; labels `[N]` whole numbers, or `[N, C]` probabilities.
    Paper: Szegedy et al. 2015 for the smoothing, arXiv:1512.00567.
    Requires: labels; rows without one are skipped.
    Related: `KD` takes the teacher's probabilities for y; `BinaryCrossEntropy` is for several
        labels a sample.
    Example: `0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`

    Args:
        label_smoothing: ε, from 0 up to below 1.
        class_weights: how much rows of each class count, for classes of unequal size; the divisor
            stays the number of rows, so weights whose mean over the training rows is 1 keep the
            scale.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_number(self, "label_smoothing", self.label_smoothing, at_least=0, below=1)
        if self.class_weights is not None:
            for weight in self.class_weights:
                check_number(self, "class_weights", weight, at_least=0)
            object.__setattr__(self, "class_weights", tuple(self.class_weights))

    def needs(self) -> Needs:
        """Student logits of two classes or more, and labels."""
        return _CLASSES

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        losses_N = F.cross_entropy(
            student_NC, labels, reduction="none", label_smoothing=self.label_smoothing
        )
        if self.class_weights is None:
            return losses_N
        return losses_N * self._row_weights(student_NC, labels)

    def row_gradients(
        self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in `RowTerm`."""
        weights_N = None
        if self.class_weights is not None:  # before the logits are overwritten
            weights_N = self._row_weights(student_NC, labels)
        losses_N, gradient_NC = cross_entropy_gradient(
            student_NC, labels, smoothing=self.label_smoothing
        )
        if weights_N is None:
            return losses_N, gradient_NC
        return losses_N * weights_N, gradient_NC.mul_(weights_N[:, None])

    def _row_weights(self, student_NC: Tensor, labels: Tensor) -> Tensor:
        """`[N]`, by the class of each row, or by the classes it is mixed of."""
        weights_C = torch.tensor(
            self.class_weights, dtype=student_NC.dtype, device=student_NC.device
        )
        if len(weights_C) != student_NC.shape[-1]:
            raise HandshakeError(
                f"`class_weights` has {len(weights_C)} values for {student_NC.shape[-1]} classes; "
                "give one for each."
            )
        if labels.is_floating_point():
            return labels.to(weights_C.dtype) @ weights_C
        return weights_C[labels.clamp(min=0)]  # what is ignored has a loss of 0


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class BinaryCrossEntropy(RowTerm):
    r"""Cross entropy of each class on its own, for several labels a sample.

    Equivalent to `binary_cross_entropy_with_logits`, summed over classes and rows.

    Formula: $-\sum_c [y_c \log \sigma(z_c) + (1 - y_c) \log \sigma(-z_c)]$.
    Shapes: student logits `[N, C]`; labels `[N, C]` between 0 and 1.
    Paper: Nam et al. 2013, arXiv:1312.5419.
    Requires: multi-label targets; rows without labels are skipped.
    Related: `BinaryKD` takes the teacher's probabilities for y.
    Example: `BinaryKD() + 0.1 * BinaryCrossEntropy()`
    """

    def needs(self) -> Needs:
        """Student logits, and labels of the multi-label kind."""
        return _SEVERAL

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        losses_NC = F.binary_cross_entropy_with_logits(
            student_NC, labels.to(student_NC.dtype), reduction="none"
        )
        return losses_NC.sum(dim=-1)
