"""Terms on the tokens of vision transformers: shallow layers mimicked, a deep one generated.

Shapes: B samples, D features, H by W patches.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from potstill.errors import HandshakeError
from potstill.features.mapped import conv, generation
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_number
from potstill.losses.kept import draws_of
from potstill.losses.review import maps
from potstill.losses.several import Features, LayersTerm
from potstill.protocols import Needs
from potstill.signals import Target


@final
class Tokens(nn.Module):
    """A linear map for each layer (where widths differ), a mask token, two convolutions."""

    def __init__(self, widths: list[tuple[int, int]]) -> None:
        super().__init__()
        self.align = nn.ModuleList(
            nn.Identity() if mine == theirs else conv(2, mine, theirs) for mine, theirs in widths
        )
        deep = widths[-1][1]
        self.mask_token = nn.Parameter(torch.zeros(1, deep, 1, 1))
        self.generation = generation(2, deep)
        self._described = ", ".join(f"{mine} → {theirs}" for mine, theirs in widths)

    def describe(self) -> str:
        """One line."""
        return f"features {self._described}; {sum(p.numel() for p in self.parameters()):,} learnt"


@final
@dataclass(frozen=True, repr=False)
class ViTKD(LayersTerm):
    r"""Mimic the teacher's shallow layers, and generate its deep one from some of the patches.

    Formula: $\alpha \sum_{\ell<n} \|W_\ell s_\ell - t_\ell\|^2 + \frac{\beta}{\lambda} \|m \odot
        (G(\tilde s_n) - t_n)\|^2$; in $\tilde s_n$ the share λ of the patches (m) of $W_n s_n$ is
        replaced by a token that learns, G is a 3×3 convolution, a ReLU and another one.
    Shapes: tokens `[B, T, D]` (class tokens are left out) or maps `[B, D, H, W]`, with the same
        patches on both sides.
    Paper: Yang et al. 2022, arXiv:2209.02432: the first two blocks and the last one.
    Requires: layers with the same patches. No labels. The mask follows from the step and the place
        in the batch, so that a run that goes on, or a cut batch, sees the same.
    Related: `MGD` for maps; `HiddenStates` for texts.
    Example: `ViTKD(("blocks.0", "blocks.1", "blocks.11"), ("blocks.0", "blocks.1", "blocks.11"))`

    Args:
        student_layer: names of modules of the student, the last one to generate from; or "auto".
        teacher_layer: as many of the teacher, the last one to be generated; or "auto".
        student_layout: how to read the student's features; by default from their number of axes.
        teacher_layout: how to read the teacher's features.
        seed: of the initial weights and of the masks.
        alpha: weight of the shallow layers, 0 or more.
        beta: weight of the deep layer, 0 or more.
        ratio: λ, the share of the patches that is masked, above 0 and below 1.
    """

    alpha: float = field(default=3e-5, kw_only=True)
    beta: float = field(default=3e-6, kw_only=True)
    ratio: float = field(default=0.5, kw_only=True)

    least: ClassVar[int] = 2

    @property
    def name(self) -> str:
        """The key of the log."""
        return "vitkd"

    def __post_init__(self) -> None:
        LayersTerm.__post_init__(self)
        check_number(self, "alpha", self.alpha, at_least=0)
        check_number(self, "beta", self.beta, at_least=0)
        check_number(self, "ratio", self.ratio, above=0, below=1)

    def needs(self) -> Needs:
        """All layers, and something to draw from."""
        return replace(LayersTerm.needs(self), chance=True)

    def network(self, student: Features, teacher: Features) -> nn.Module:
        """Linear maps, mask token and convolutions."""
        pairs = list(zip(*self._grids(student, teacher), strict=True))
        for names, (mine, theirs) in zip(self.pairs(), pairs, strict=True):
            if mine.shape[2:] != theirs.shape[2:]:
                raise HandshakeError(
                    f"`vitkd` compares patch by patch; the student's `{names[0]}` has "
                    f"{list(mine.shape[2:])} of them and the teacher's `{names[1]}` "
                    f"{list(theirs.shape[2:])}. Use models with patches of one size, or `hint`."
                )
        return Tokens([(int(mine.shape[1]), int(theirs.shape[1])) for mine, theirs in pairs])

    def sample_losses(self, student: Features, teacher: Features, target: Target) -> Tensor:
        """As in `LayersTerm`."""
        made = self.module
        assert isinstance(made, Tokens), "`bind` made it"
        mine, theirs = self._grids(student, teacher)
        aligned = [align(each) for align, each in zip(made.align, mine, strict=True)]
        pairs = list(zip(aligned, theirs, strict=True))
        shallow_B = torch.stack([_squares(s, t) for s, t in pairs[:-1]]).sum(dim=0)
        hidden_BHW = self._hidden(mine[-1], target)[:, None]
        filled = made.generation(torch.where(hidden_BHW, made.mask_token, aligned[-1]))
        deep_B = _squares(torch.where(hidden_BHW, filled, theirs[-1]), theirs[-1])
        return self.alpha * shallow_B + self.beta / self.ratio * deep_B

    def _hidden(self, map_BDHW: Tensor, target: Target) -> Tensor:
        """`[B, H, W]` bool, with exactly `int(P (1 - λ))` patches that are not masked."""
        size, height, width = len(map_BDHW), *map_BDHW.shape[2:]
        drawn = draws_of(target, size, seed=self.seed, device=map_BDHW.device)
        places_BP = drawn.uniform(height * width).argsort(dim=1, stable=True).argsort(dim=1)
        kept = int(height * width * (1 - self.ratio))
        return (places_BP >= kept).reshape(size, height, width)

    def _grids(self, student: Features, teacher: Features) -> tuple[list[Tensor], list[Tensor]]:
        return maps(student, self.student_layout), maps(teacher, self.teacher_layout)


def _squares(student: Tensor, teacher: Tensor) -> Tensor:
    """`[B]`, summed over all elements."""
    return (upcast(student) - teacher).square().flatten(1).sum(dim=1)
