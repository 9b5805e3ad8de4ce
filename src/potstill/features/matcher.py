"""What brings a student's feature and a teacher's to one shape, and what all of that share.

Shapes: B samples, D features, positions behind them.
"""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Size, Tensor, nn

from potstill.errors import HandshakeError
from potstill.features.layout import Layout, layout_of, on_common_positions
from potstill.functional.reductions import upcast


class Matcher(nn.Module, ABC):
    """A module from two features to two of one shape, sized from one batch.

    Args:
        student: the student's feature for one batch; its numbers do not matter.
        teacher: the teacher's feature for the same batch.
        student_layout: how to read the axes; by default from their number (three: tokens).
        teacher_layout: the same for the teacher.

    Attributes:
        is_identity: nothing is changed, because nothing need be.

    Raises:
        HandshakeError: the two shapes cannot be brought together.
    """

    is_identity: bool = False

    def __init__(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        student_layout: Layout | str | None = None,
        teacher_layout: Layout | str | None = None,
    ) -> None:
        super().__init__()
        if len(student) != len(teacher):
            raise HandshakeError(
                f"The features are of {len(student)} and {len(teacher)} samples; "
                "give student and teacher the same batch."
            )
        self.student_layout = layout_of(student.shape, given=student_layout)
        self.teacher_layout = layout_of(teacher.shape, given=teacher_layout)

    @abstractmethod
    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both features in one shape, `[B, D, *positions]`, in float32 or better."""

    @abstractmethod
    def describe(self) -> str:
        """One line: from which shape to which, and how."""

    def arranged(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both with features on axis 1 and with the same number of position axes."""
        return on_common_positions(
            upcast(student),
            upcast(teacher),
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
        )


def averaged_down(feature: Tensor, positions: Size) -> Tensor:
    """The feature's grid, averaged down along the axes where it is the larger one."""
    grid = feature.shape[2:]
    if not positions:
        return feature.flatten(2).mean(dim=2) if grid else feature
    if not grid:
        return feature
    smaller = [min(here, there) for here, there in zip(grid, positions, strict=True)]
    if smaller == list(grid):
        return feature
    if len(smaller) == 1:
        return F.adaptive_avg_pool1d(feature, smaller[0])
    return F.adaptive_avg_pool2d(feature, (smaller[0], smaller[1]))


def spread(feature: Tensor, positions: Size) -> Tensor:
    """The feature's grid, interpolated up or repeated to these positions."""
    if feature.ndim == 2 and positions:
        return feature.reshape(*feature.shape, *(1,) * len(positions)).expand(-1, -1, *positions)
    if feature.shape[2:] == positions:
        return feature
    mode = "linear" if len(positions) == 1 else "bilinear"
    return F.interpolate(feature, size=list(positions), mode=mode, align_corners=False)
