"""SRD: one linear projector, features at one scale, and the logarithm of a sum.

Shapes: B samples, D features of the student, E of the teacher.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self, final

from torch import Tensor, nn

from potstill.features.heads import Head
from potstill.functional.statistics import log_power_sum, standardised
from potstill.losses.batch import BatchTerm
from potstill.losses.checks import check_number
from potstill.signals import Signals

_EPS = 1e-4


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class SRD(BatchTerm):
    r"""Equal the teacher's pooled feature through one linear map, whatever its scale.

    Formula: $\log \sum_{b,e} |\hat s_{be} - \hat t_{be}|^\alpha$, $\hat s$ and $\hat t$ the
        features $W f_s$ and $f_t$ with mean 0 and variance 1 over the batch (batch norm without
        parameters, ε = 10⁻⁴).
    Shapes: vectors `[B, D]` and `[B, E]`; maps and tokens are averaged over positions.
    Paper: Miles and Mikolajczyk 2024, arXiv:2303.11098 (α = 4).
    Requires: two models whose layers can be read, and batches of many samples. No labels.
    Related: `Hint` on the same layers, with neither scale nor logarithm.
    Example: `CrossEntropy() + KD(temperature=1) + 2 * SRD()`

    Args:
        student_layer: name, names in order, or "auto": what goes into the head.
        teacher_layer: likewise.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        power: α, 1 or more.
        seed: of W, which is always there, and has no bias, for that would be taken off.
    """

    power: float = 4.0
    seed: int = 0
    heads: tuple[Head, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        BatchTerm.__post_init__(self)
        check_number(self, "power", self.power, at_least=1)

    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """As in `BatchTerm`."""
        mine = standardised(self.made(self.heads)[number](student_BD), mask_B, eps=_EPS)
        theirs = standardised(teacher_BE, mask_B, eps=_EPS)
        return log_power_sum(mine - theirs, power=self.power)

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with a linear map for each pair."""
        BatchTerm.bind(self, student, teacher)
        bound = replace(self)
        widths = (self.widths(student, teacher, n) for n in range(len(self.pairs())))
        heads = tuple(Head(d, e, seed=self.seed + n, bias=False) for n, (d, e) in enumerate(widths))
        device = self.features(student, teacher, 0)[0].device
        object.__setattr__(bound, "heads", tuple(head.to(device) for head in heads))
        return bound

    def parts(self) -> nn.Module | None:
        """The linear maps, once bound."""
        return nn.ModuleList(self.heads) if self.heads else None

    def describe(self, student: Signals, teacher: Signals) -> Iterator[str]:
        """As in `LayerTerm`, with the linear maps."""
        lines = BatchTerm.describe(self, student, teacher)
        for line, head in zip(lines, self.heads, strict=True):
            yield line.replace("no projector", head.describe())
