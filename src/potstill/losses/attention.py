"""Terms on the blocks of transformers: whom they attend to.

Shapes: B samples, L positions, H heads, d features of a head. Blocks are named as in
`potstill.features.blocks`; padding (`Target.positions`) never counts.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self, final

from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.attention import attention_kl, attention_squared_error
from potstill.functional.reductions import keep_rows, sum_rows
from potstill.losses.blocks import BlockTerm
from potstill.losses.layers import feature_of
from potstill.protocols import Needs
from potstill.signals import Partial, Signals, Target


@dataclass(frozen=True, repr=False)
class AttentionTerm(BlockTerm):
    """A comparison of tensors with heads apart, read from pairs of blocks.

    A subclass says which `parts` of the blocks it reads and gives `sample_losses` of each.
    """

    @property
    @abstractmethod
    def parts_read(self) -> tuple[str, ...]:
        """Which parts of a block, as in `potstill.features.blocks`, without the dot."""

    @abstractmethod
    def sample_losses(
        self, student: Tensor, teacher: Tensor, positions_BL: Tensor | None
    ) -> Tensor:
        """`[B]`, a mean over heads and positions that count; zero where both are equal."""

    @abstractmethod
    def mismatch(self, student: Tensor, teacher: Tensor) -> str | None:
        """What is wrong with the two shapes and what helps; `None` if they can be compared."""

    @final
    def needs(self) -> Needs:
        """The parts of all pairs of blocks."""
        pairs = self._tensors()
        return Needs(
            student_layers=tuple(s for s, _ in pairs), teacher_layers=tuple(t for _, t in pairs)
        )

    @final
    def bind(self, student: Signals, teacher: Signals) -> Self:
        """Itself, once the shapes of all pairs are found to fit.

        Raises:
            HandshakeError: a part is missing, or two shapes cannot be compared.
        """
        for names in self._tensors():
            self._pair(student, teacher, *names)
        return self

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over pairs and samples, and how many rows count."""
        count = self.count(target)
        totals = [self._total(student, teacher, target, *names) for names in self._tensors()]
        total = totals[0]
        for each in totals[1:]:
            total = total + each
        return Partial(total, count)

    def _total(
        self, student: Signals, teacher: Signals, target: Target, mine: str, theirs: str
    ) -> Tensor:
        student_part, teacher_part = self._pair(student, teacher, mine, theirs)
        one_row_each = len(student_part) == target.num_rows
        mask_B = target.mask(labels=False) if one_row_each else None
        positions_BL = target.positions
        if positions_BL is not None and positions_BL.shape[1] != student_part.shape[2]:
            positions_BL = None  # of another kind of position than these layers have
        losses_B = self.sample_losses(
            keep_rows(student_part, mask_B), keep_rows(teacher_part, mask_B), positions_BL
        )
        if one_row_each:
            return sum_rows(losses_B, mask_B)
        return losses_B.mean() * self.count(target)

    def _pair(
        self, student: Signals, teacher: Signals, mine: str, theirs: str
    ) -> tuple[Tensor, Tensor]:
        student_part = feature_of(self, student, mine, of="student")
        teacher_part = feature_of(self, teacher, theirs, of="teacher").detach()
        problem = self.mismatch(student_part, teacher_part)
        if problem is not None:
            raise HandshakeError(
                f"`{self.name}` got {list(student_part.shape)} from the student's `{mine}` and "
                f"{list(teacher_part.shape)} from the teacher's `{theirs}`: {problem}"
            )
        return student_part, teacher_part

    def _tensors(self) -> list[tuple[str, str]]:
        return [(f"{s}.{p}", f"{t}.{p}") for s, t in self.pairs() for p in self.parts_read]


@dataclass(frozen=True, kw_only=True, repr=False)
class ScoreTerm(AttentionTerm):
    """A term on attention scores, head by head."""

    @property
    def parts_read(self) -> tuple[str, ...]:
        """Scores."""
        return ("scores",)

    def mismatch(self, student: Tensor, teacher: Tensor) -> str | None:
        """As in `AttentionTerm`."""
        return unequal_heads(student, teacher)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class AttentionKL(ScoreTerm):
    r"""Attend to the same positions as the teacher.

    Formula: $\sum_\ell \mathrm{mean}_{h,i}\, \mathrm{KL}(A^t_{\ell h i} \| A^s_{\ell h i})$ with
        $A = \mathrm{softmax}(q k^\top / \sqrt{d})$ over the positions that are no padding, the mean
        over heads and positions.
    Shapes: scores `[B, H, L, L]`, with as many heads on both sides; features of a head may differ.
    Paper: Wang et al. 2020, arXiv:2002.10957 (MiniLM; the last blocks).
    Requires: two encoders whose blocks have `scores`, and no attention weights: these are computed
        from query and key, with any attention kernel. No labels.
    Related: `Relations` for unequal numbers of heads, and for MiniLM's other half.
    Example: `AttentionKL() + Relations(of=("value",))`

    Args:
        layers: how many pairs of blocks, evenly spaced and ending with the last ones.
        student_layer: another block than the student's last one.
        teacher_layer: another block than the teacher's last one.
    """

    def sample_losses(
        self, student: Tensor, teacher: Tensor, positions_BL: Tensor | None
    ) -> Tensor:
        """As in `AttentionTerm`."""
        return attention_kl(student, teacher, positions_BL)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class AttentionMSE(ScoreTerm):
    r"""Equal the teacher's attention scores, before the softmax.

    Formula: $\sum_\ell \mathrm{mean}_{h,i,j}\, (S^s_{\ell hij} - S^t_{\ell hij})^2$ with
        $S = q k^\top / \sqrt{d}$, the mean over heads and pairs of positions that are no padding.
    Shapes: scores `[B, H, L, L]`, with as many heads on both sides; features of a head may differ.
    Paper: Jiao et al. 2019, arXiv:1909.10351 (TinyBERT, equation 7).
    Requires: two encoders whose blocks have `scores`. No labels.
    Related: `AttentionKL` ignores what a softmax ignores.
    Example: `HiddenStates(layers=3, embeddings=True) + AttentionMSE(layers=3)`

    Args:
        layers: how many pairs of blocks, evenly spaced and ending with the last ones.
        student_layer: another block than the student's last one.
        teacher_layer: another block than the teacher's last one.
    """

    def sample_losses(
        self, student: Tensor, teacher: Tensor, positions_BL: Tensor | None
    ) -> Tensor:
        """As in `AttentionTerm`."""
        return attention_squared_error(student, teacher, positions_BL)


def unequal_heads(student: Tensor, teacher: Tensor) -> str | None:
    """Why two tensors with heads apart cannot be compared head by head; `None` if they can."""
    if student.shape[1] != teacher.shape[1]:
        return (
            f"{student.shape[1]} heads cannot be compared with {teacher.shape[1]}; use "
            "`relations` with `heads`, or a student with as many heads."
        )
    return unequal_positions(student, teacher)


def unequal_positions(student: Tensor, teacher: Tensor) -> str | None:
    """Why two tensors cannot be compared position by position; `None` if they can."""
    if student.shape[2] != teacher.shape[2] or len(student) != len(teacher):
        return "samples or positions are not the same; give both models the same tokens."
    return None
