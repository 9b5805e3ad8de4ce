"""Terms that tell samples apart, among a batch and the last batches.

Shapes: B samples, D features of the student, E of the teacher, M candidates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self, final

from torch import Tensor, nn

from potstill.functional.reductions import sum_rows
from potstill.losses.batch import BatchTerm
from potstill.losses.checks import check_choice, check_number, check_whole
from potstill.losses.remembered import Contrast, Likeness
from potstill.signals import Signals


class Against(StrEnum):
    """How a sample's partner is told from others."""

    NCE = "nce"
    INFO_NCE = "info_nce"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class CRD(BatchTerm):
    r"""Tell which vector of the teacher is of the same sample, among those of other samples.

    Formula: $-\log h(t_i, s_i) - \sum_j \log(1 - h(t_j, s_i))$, mean over i, and the same from the
        teacher's side; $h = e^{t^\top s / \tau} / (e^{t^\top s / \tau} + r)$, s and t linear maps
        to `dim` features at length 1. r is the number of others over `samples`; without `samples`,
        that number times the mean of $e^{t^\top s / \tau}$ over the first batch. With "info_nce"
        $-\log \mathrm{softmax}_j(t_j^\top s_i / \tau)_i$ on either side.
    Shapes: vectors `[B, D]` and `[B, E]`; maps and tokens are averaged over positions.
    Paper: Tian et al. 2020, arXiv:1910.10699 (equations 17 and 18; r there is N/M). The authors'
        code keeps a vector for each sample of the data set, compares the anchor with its own old
        one, and sets r by the first batch, as this does without `samples`; here others come from
        the batch and from a queue of fixed size, and a sample meets its partner of this step.
    Requires: two models whose layers can be read, and batches of many samples. No labels: samples
        of one class are others to each other.
    Related: `QueueSimilarity` follows how alike the teacher finds samples.
    Example: `CrossEntropy() + 0.8 * CRD(queue=4096)`

    Args:
        student_layer: name, names in order, or "auto": what goes into the head.
        teacher_layer: likewise.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        queue: vectors of earlier batches that are kept on either side; 0 for the batch alone.
        dim: features after the linear maps.
        temperature: τ, above 0.
        samples: the number of training samples, for the paper's r.
        against: "nce" (the paper) or "info_nce".
        seed: of the linear maps' initial weights.
    """

    queue: int = 0
    dim: int = 128
    temperature: float = 0.07
    samples: int | None = None
    against: Against | str = Against.NCE
    seed: int = 0
    contrasts: tuple[Contrast, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        BatchTerm.__post_init__(self)
        check_whole(self, "queue", self.queue, at_least=0)
        check_whole(self, "dim", self.dim, at_least=2)
        check_number(self, "temperature", self.temperature, above=0)
        if self.samples is not None:
            check_whole(self, "samples", self.samples, at_least=1)
        object.__setattr__(self, "against", check_choice(self, "against", self.against, Against))

    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """As in `BatchTerm`."""
        losses_B = self.made(self.contrasts)[number](student_BD, teacher_BE, mask_B)
        return mean_rows(losses_B, mask_B)

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with linear maps and queues for each pair."""
        BatchTerm.bind(self, student, teacher)
        bound = replace(self)
        made = tuple(
            Contrast(
                *self.widths(student, teacher, number),
                dim=self.dim,
                queue=self.queue,
                temperature=self.temperature,
                samples=self.samples,
                choice=self.against == Against.INFO_NCE,
                seed=self.seed + 2 * number,
            ).to(self.features(student, teacher, number)[0].device)
            for number in range(len(self.pairs()))
        )
        object.__setattr__(bound, "contrasts", made)
        return bound

    def parts(self) -> nn.Module | None:
        """Linear maps and queues, once bound."""
        return nn.ModuleList(self.contrasts) if self.contrasts else None

    def describe(self, student: Signals, teacher: Signals) -> Iterator[str]:
        """As in `LayerTerm`, with the linear maps."""
        parts = [part.describe() for part in self.contrasts]
        return described(BatchTerm.describe(self, student, teacher), parts)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class QueueSimilarity(BatchTerm):
    r"""Find a sample like the same earlier samples as the teacher does. No labels, any backbone.

    Formula: $\mathrm{mean}_i\, \mathrm{KL}(p_i \| q_i)$ with $p_i = \mathrm{softmax}_m(\cos(t_i,
        c_m) / \tau_t)$, $q_i = \mathrm{softmax}_m(\cos(P(s_i), c_m) / \tau)$; the candidates c are
        the teacher's vectors of this batch, the sample's own among them, and of the last ones. P is
        linear, and only where the widths differ.
    Shapes: vectors `[B, D]` and `[B, E]`; maps and tokens are averaged over positions.
    Paper: Fang et al. 2021, arXiv:2101.04731 (SEED: a queue of 65536, τ = 0.2, τ_t = 0.01, cross
        entropy, which has the same gradient).
    Requires: two models whose layers can be read. No labels.
    Related: `SimilarityKL` compares student with student, in the batch alone.
    Example: `1 * QueueSimilarity(queue=4096)`

    Args:
        student_layer: name, names in order, or "auto": what goes into the head.
        teacher_layer: likewise.
        student_layout: how to read the student's feature; by default from its number of axes.
        teacher_layout: how to read the teacher's feature.
        queue: vectors of earlier batches that are kept; 0 for the batch alone.
        temperature: τ, above 0.
        teacher_temperature: τ_t, above 0; as `temperature` if left out.
        seed: of the projector's initial weights.
    """

    queue: int = 4096
    temperature: float = 0.07
    teacher_temperature: float | None = None
    seed: int = 0
    likenesses: tuple[Likeness, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        BatchTerm.__post_init__(self)
        check_whole(self, "queue", self.queue, at_least=0)
        check_number(self, "temperature", self.temperature, above=0)
        if self.teacher_temperature is not None:
            check_number(self, "teacher_temperature", self.teacher_temperature, above=0)

    def value(
        self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None, number: int
    ) -> Tensor:
        """As in `BatchTerm`."""
        losses_B = self.made(self.likenesses)[number](student_BD, teacher_BE, mask_B)
        return mean_rows(losses_B, mask_B)

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with a queue for each pair, and projectors where widths differ."""
        BatchTerm.bind(self, student, teacher)
        bound = replace(self)
        made = tuple(
            Likeness(
                *self.widths(student, teacher, number),
                queue=self.queue,
                temperatures=(self.temperature, self.teacher_temperature or self.temperature),
                seed=self.seed + number,
            ).to(self.features(student, teacher, number)[0].device)
            for number in range(len(self.pairs()))
        )
        object.__setattr__(bound, "likenesses", made)
        return bound

    def parts(self) -> nn.Module | None:
        """Queues and projectors, once bound."""
        return nn.ModuleList(self.likenesses) if self.likenesses else None

    def describe(self, student: Signals, teacher: Signals) -> Iterator[str]:
        """As in `LayerTerm`, with queue and projector."""
        parts = [part.describe() for part in self.likenesses]
        return described(BatchTerm.describe(self, student, teacher), parts)


def mean_rows(losses_B: Tensor, mask_B: Tensor | None) -> Tensor:
    """The mean over the rows that count; 0 if none does."""
    number = len(losses_B) if mask_B is None else mask_B.sum().clamp(min=1)
    return sum_rows(losses_B, mask_B) / number


def described(lines: Iterator[str], parts: Sequence[str]) -> Iterator[str]:
    """Lines of pairs with what lies between them in place of no projector."""
    for line, part in zip(lines, parts, strict=True):
        yield line.replace("no projector", part)
