"""A term on the blocks of transformers: how their queries, keys and values relate.

Shapes: B samples, L positions, H heads, d features of a head.
"""

from dataclasses import dataclass
from typing import Final, final

from torch import Tensor

from potstill.errors import RecipeError
from potstill.functional.attention import attention_kl, relation_scores
from potstill.losses.attention import AttentionTerm, unequal_heads, unequal_positions
from potstill.losses.blocks import BlockTerm

RELATED: Final = ("query", "key", "value")


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Relations(AttentionTerm):
    r"""Relate positions to each other as the teacher's queries, keys or values do.

    Formula: $\sum_{x} \mathrm{mean}_{a,i}\, \mathrm{KL}(R^t_{x a i} \| R^s_{x a i})$ with
        $R_x = \mathrm{softmax}(x x^\top / \sqrt{d_r})$, x the queries, keys or values of all heads
        together, divided into relation heads a of $d_r$ features each; mean over a and positions.
    Shapes: projections `[B, H, L, d]`; heads and features may differ between the models.
    Paper: Wang et al. 2020, arXiv:2012.15828 (MiniLMv2: all three); arXiv:2002.10957 (MiniLM: the
        values, with the attention's own heads).
    Requires: two encoders whose blocks have `query`, `key` and `value`. No labels.
    Related: `AttentionKL` compares queries with keys.
    Example: `Relations(heads=48, teacher_layer="blocks.20")`

    Args:
        of: which projections: any of "query", "key", "value".
        heads: relation heads; without it those of the attention, which must then be as many on both
            sides.
        layers: how many pairs of blocks, evenly spaced and ending with the last ones.
        student_layer: another block than the student's last one.
        teacher_layer: another block than the teacher's last one; of a large teacher, MiniLMv2 takes
            one of the upper middle.
    """

    of: tuple[str, ...] = RELATED
    heads: int | None = None

    def __post_init__(self) -> None:
        BlockTerm.__post_init__(self)
        named: object = self.of
        given = (named,) if isinstance(named, str) else tuple(self.of)
        if not given or set(given) - set(RELATED) or len(set(given)) < len(given):
            raise RecipeError(
                f"`Relations` got of={self.of!r}; give one or more of {', '.join(RELATED)}, each "
                "once."
            )
        object.__setattr__(self, "of", given)
        whole = isinstance(self.heads, int) and not isinstance(self.heads, bool)
        if self.heads is not None and not (whole and self.heads > 0):
            raise RecipeError(
                f"`Relations` got heads={self.heads!r}; give a whole number of relation heads, 1 "
                "or more, or leave it out for those of the attention."
            )

    @property
    def parts_read(self) -> tuple[str, ...]:
        """The projections asked for."""
        return self.of

    def sample_losses(
        self, student: Tensor, teacher: Tensor, positions_BL: Tensor | None
    ) -> Tensor:
        """As in `AttentionTerm`."""
        heads = self.heads or student.shape[1]
        return attention_kl(
            relation_scores(student, heads=heads),
            relation_scores(teacher, heads=heads),
            positions_BL,
        )

    def mismatch(self, student: Tensor, teacher: Tensor) -> str | None:
        """As in `AttentionTerm`."""
        if self.heads is None:
            return unequal_heads(student, teacher)
        for whose, part in (("student", student), ("teacher", teacher)):
            width = part.shape[1] * part.shape[3]
            if width % self.heads:
                return (
                    f"the {whose}'s {width} features cannot be divided into heads={self.heads}; "
                    "give a number that divides both models' features."
                )
        return unequal_positions(student, teacher)
