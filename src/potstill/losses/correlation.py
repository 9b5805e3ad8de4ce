"""DIST: correlation of student and teacher along the classes and along the batch."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from potstill.functional.distances import pearson
from potstill.functional.divergences import softened
from potstill.functional.reductions import sum_rows
from potstill.losses.checks import check_number
from potstill.losses.rows import ONE_OF_MANY, read_rows
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import Partial, Signals, Target


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class DIST(ArithmeticTerm):
    r"""Correlate with the teacher instead of equalling it: along classes and along the batch.

    Formula: $T^2 [\beta\,\mathrm{mean}_i (1 - \rho(q_{i:}, p_{i:})) + \gamma\,\mathrm{mean}_c
        (1 - \rho(q_{:c}, p_{:c}))]$ with Pearson's ρ, $p = \mathrm{softmax}(z_t / T)$ and q alike.
        A row or column without any spread has ρ = 0 with zero gradient.
    Shapes: logits `[N, C]` on both sides.
    Paper: Huang et al. 2022, arXiv:2205.10536; there 2 DIST + 1 CE; ImageNet: temperature 1.
    Requires: a teacher that gives logits of the student's classes; three classes (two are always
        perfectly correlated). No labels. The second part works on the batch it is given: use 64
        rows or more at a time, and know that smaller micro-batches change it.
    Related: asks less than `KD`, which suits teachers much stronger than the student.
    Example: `2 * DIST(temperature=4) + CrossEntropy()`

    Args:
        beta: weight of the correlation along classes, 0 or more.
        gamma: weight of the correlation along the batch, 0 or more.
        temperature: T, above 0.
    """

    batchwise: ClassVar[bool] = True

    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        check_number(self, "beta", self.beta, at_least=0)
        check_number(self, "gamma", self.gamma, at_least=0)
        check_number(self, "temperature", self.temperature, above=0)

    def needs(self) -> Needs:
        """Logits on both sides."""
        return Needs(student_logits=True, teacher_logits=True, min_classes=3, kinds=ONE_OF_MANY)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over rows; the mean over classes counts once for each row."""
        rows = read_rows(self, student, teacher, target)
        count = self.count(target)
        assert isinstance(rows.teacher, Tensor), "kept classes were refused"
        student_NC = softened(rows.student_NC, self.temperature)
        teacher_NC = softened(rows.teacher, self.temperature)
        along_classes = sum_rows(1 - pearson(student_NC, teacher_NC, dim=1), rows.mask_N)
        along_batch = self._along_batch(student_NC, teacher_NC, mask_N=rows.mask_N) * count
        total = self.beta * along_classes + self.gamma * along_batch
        return Partial(self.temperature**2 * total, count)

    def _along_batch(
        self, student_NC: Tensor, teacher_NC: Tensor, *, mask_N: Tensor | None
    ) -> Tensor:
        mask_N1 = None if mask_N is None else mask_N[:, None]
        return (1 - pearson(student_NC, teacher_NC, dim=0, mask=mask_N1)).mean()
