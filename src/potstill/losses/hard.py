"""A term that takes the teacher at its word: its best class is the label.

Shapes: N rows, C classes.
"""

from dataclasses import dataclass
from typing import final

import torch.nn.functional as F
from torch import Tensor

from potstill.losses.checks import check_number
from potstill.losses.rows import ONE_OF_MANY, RowTerm
from potstill.protocols import Needs


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class HardKD(RowTerm):
    r"""Learn the teacher's best class as if it were the label.

    Formula: $-\sum_c y_c \log q_c$, y one-hot at $\arg\max_c p_c$ and smoothed to $(1 - \epsilon) y
        + \epsilon / C$.
    Shapes: logits `[N, C]` on both sides.
    Paper: Touvron et al. 2020, arXiv:2012.12877 (DeiT, equation 3), there on the output of a
        distillation token, beside labels on that of the class token, each with half of the weight.
    Requires: logits on both sides, two classes. No labels, so unlabelled data teach too.
    Related: `KD` keeps what the teacher thinks of the other classes.
    Example: `0.5 * HardKD() + 0.5 * CrossEntropy(label_smoothing=0.1)`

    Args:
        label_smoothing: ε, from 0 up to below 1.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_number(self, "label_smoothing", self.label_smoothing, at_least=0, below=1)

    def needs(self) -> Needs:
        """Logits on both sides."""
        return Needs(student_logits=True, teacher_logits=True, min_classes=2, kinds=ONE_OF_MANY)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        chosen_N = teacher_NC.argmax(dim=-1)
        smoothing = self.label_smoothing
        return F.cross_entropy(student_NC, chosen_N, reduction="none", label_smoothing=smoothing)
