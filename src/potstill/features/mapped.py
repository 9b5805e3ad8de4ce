"""Matchers that learn more than a linear map, and the layers they are made of.

Shapes: B samples, D features of the student, E of the teacher; positions: none, L, or H by W, which
is the rank 0, 1 or 2 of a feature.
"""

from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from potstill.features.layout import Layout, as_grid, features_first, layout_of
from potstill.features.matcher import Matcher, averaged_down, spread
from potstill.runtime.seeds import seeded

_CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}
Make = Callable[[int, int, int], nn.Module]
"""From the student's number of features, the teacher's, and the rank, to a module."""


def conv(rank: int, num_in: int, num_out: int, *, kernel: int = 1, bias: bool = True) -> nn.Module:
    """A convolution that keeps the size of the grid; a linear layer where there is no grid."""
    if rank == 0:
        return nn.Linear(num_in, num_out, bias=bias)
    return _CONV[rank](num_in, num_out, kernel, padding=kernel // 2, bias=bias)


def norm(rank: int, num: int) -> nn.Module:
    """Batch normalisation of each feature over samples and positions."""
    return nn.BatchNorm2d(num) if rank == 2 else nn.BatchNorm1d(num)


class Mapped(Matcher):
    """A network on the student's features, in the middle of a change of grid.

    As `Projector`, with any network in place of its linear map: the student's grid is averaged down
    where it is the larger one, goes through the network, and is interpolated up where it is
    smaller. The network learns between equal shapes too.

    Args:
        student: the student's feature for one batch.
        teacher: the teacher's feature for the same batch.
        make: the network, which keeps the grid.
        student_layout: see `Matcher`.
        teacher_layout: see `Matcher`.
        seed: of its initial weights.

    Raises:
        HandshakeError: the two shapes cannot be brought together.
    """

    def __init__(
        self,
        student: Tensor,
        teacher: Tensor,
        make: Make,
        *,
        student_layout: Layout | str | None = None,
        teacher_layout: Layout | str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            student, teacher, student_layout=student_layout, teacher_layout=teacher_layout
        )
        mine, theirs = self.arranged(student, teacher)
        inner = averaged_down(mine[:1], theirs.shape[2:])
        self.width, self.rank = int(theirs.shape[1]), theirs.ndim - 2
        with seeded(seed):
            made = make(int(inner.shape[1]), self.width, inner.ndim - 2)
        self.network = made.to(student.device)
        self._described = (
            f"{self.student_layout} {list(student.shape[1:])} → "
            f"{self.teacher_layout} {list(teacher.shape[1:])}"
        )

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Matcher`."""
        student, teacher = self.arranged(student, teacher)
        positions = teacher.shape[2:]
        return spread(self.network(averaged_down(student, positions)), positions), teacher

    def describe(self) -> str:
        """One line."""
        learnt = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return f"{self._described}: {learnt:,} parameters"


@final
class Masked(Mapped):
    """A projector, then a mask, then two convolutions that fill in what was masked (MGD)."""

    def __init__(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        student_layout: Layout | str | None = None,
        teacher_layout: Layout | str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            student,
            teacher,
            _only_where_unequal,
            student_layout=student_layout,
            teacher_layout=teacher_layout,
            seed=seed,
        )
        with seeded(seed + 1):
            self.generation = generation(self.rank, self.width).to(student.device)

    def filled(self, student: Tensor, teacher: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, with the student masked by `kept` (0 or 1) and filled in again."""
        student, teacher = self(student, teacher)
        return self.generation(student * kept.to(student.dtype)), teacher


def generation(rank: int, width: int) -> nn.Sequential:
    """Two convolutions of 3 with a ReLU between them."""
    return nn.Sequential(
        conv(rank, width, width, kernel=3), nn.ReLU(), conv(rank, width, width, kernel=3)
    )


def _only_where_unequal(num_student: int, num_teacher: int, rank: int) -> nn.Module:
    return nn.Identity() if num_student == num_teacher else conv(rank, num_student, num_teacher)


@final
class Pooled(Matcher):
    """No parts to learn: the larger grid of the two is averaged down to the smaller one."""

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Matcher`."""
        student, teacher = self.arranged(student, teacher)
        return averaged_down(student, teacher.shape[2:]), averaged_down(teacher, student.shape[2:])

    def describe(self) -> str:
        """One line."""
        return f"{self.student_layout} → {self.teacher_layout}: the larger grid averaged down"


def as_map(feature: Tensor, layout: Layout | str | None) -> Tensor:
    """Any feature as `[B, D, H, W]`: tokens fill a square (extra ones dropped) or a row.

    Raises:
        HandshakeError: the axes are not what the layout says.
    """
    found = layout_of(feature.shape, given=layout)
    first = features_first(feature, found)
    if found is Layout.TOKENS and (grid := as_grid(first, (1, 1))) is not None:
        return grid
    return first.reshape(*first.shape[:2], *(*first.shape[2:], 1, 1)[:2])
