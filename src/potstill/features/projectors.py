"""A projector sizes itself from two features and brings the student's to the teacher's shape.

Shapes: B samples, D features of the student, E of the teacher, positions behind them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import HandshakeError
from potstill.features.layout import Layout, features_first, layout_of, on_common_positions
from potstill.functional.reductions import upcast


class Projector(nn.Module):
    """A linear map of the features at each position, and a change of the grid of positions.

    Only the student is changed. Its features go through one linear map (a 1×1 convolution). Its
    grid is averaged down where it is larger than the teacher's and interpolated linearly where it
    is smaller; it is averaged away for a teacher's vector, and a student's vector is repeated at
    every position. How maps, tokens and signals meet: `potstill.features.layout`. Between equal
    shapes and layouts nothing is changed or learnt.

    Args:
        student: the student's feature for one batch; its numbers do not matter.
        teacher: the teacher's feature for the same batch.
        student_layout: how to read the axes; by default from their number (three: tokens).
        teacher_layout: the same for the teacher.
        seed: of the initial weights, uniform within ±1/√D as in `nn.Linear`.

    Raises:
        HandshakeError: the two shapes cannot be brought together.
    """

    def __init__(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        student_layout: Layout | str | None = None,
        teacher_layout: Layout | str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(student) != len(teacher):
            raise HandshakeError(
                f"The features are of {len(student)} and {len(teacher)} samples; "
                "give student and teacher the same batch."
            )
        self.student_layout = layout_of(student.shape, given=student_layout)
        self.teacher_layout = layout_of(teacher.shape, given=teacher_layout)
        same_layout = self.student_layout is self.teacher_layout
        self.is_identity = same_layout and student.shape == teacher.shape
        self._described = self._describe(student, teacher)
        if self.is_identity:
            return
        num_student = features_first(student, self.student_layout).shape[1]
        num_teacher = features_first(teacher, self.teacher_layout).shape[1]
        weight_ED, bias_E = initial_weights(num_student, num_teacher, seed=seed)
        self.weight = nn.Parameter(weight_ED.to(student.device))
        self.bias = nn.Parameter(bias_E.to(student.device))

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both features in one shape, `[B, E, *positions]`, in float32 or better.

        Args:
            student: with the number of features it was made for; the grid may vary.
            teacher: is only rearranged.
        """
        student, teacher = self._arranged(upcast(student), upcast(teacher))
        if self.is_identity:
            return student, teacher
        positions = teacher.shape[2:]
        student = averaged_down(student, positions)
        student = _linear(student, self.weight, self.bias)
        return _spread(student, positions), teacher

    def describe(self) -> str:
        """One line: from which shape to which, and how."""
        return self._described

    def _arranged(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return on_common_positions(
            student,
            teacher,
            student_layout=self.student_layout,
            teacher_layout=self.teacher_layout,
        )

    def _describe(self, student: Tensor, teacher: Tensor) -> str:
        start = f"{self.student_layout} {list(student.shape[1:])}"
        end = f"{self.teacher_layout} {list(teacher.shape[1:])}"
        if self.is_identity:
            return f"{start} → {end}: as it is"
        student, teacher = self._arranged(student, teacher)
        steps = [f"linear {student.shape[1]} → {teacher.shape[1]}"]
        if student.shape[2:] != teacher.shape[2:]:
            steps.append(f"positions {_size(student)} → {_size(teacher)}")
        return f"{start} → {end}: {', '.join(steps)}"


def initial_weights(num_student: int, num_teacher: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Weight `[E, D]` and bias `[E]` of a linear map, drawn under a seed."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(num_student)
    weight_ED = torch.empty(num_teacher, num_student).uniform_(-bound, bound, generator=generator)
    return weight_ED, torch.empty(num_teacher).uniform_(-bound, bound, generator=generator)


def averaged_down(student: Tensor, positions: torch.Size) -> Tensor:
    """The student's grid, averaged down along the axes where it is the larger one."""
    grid = student.shape[2:]
    if not positions:
        return student.flatten(2).mean(dim=2) if grid else student
    if not grid:
        return student
    smaller = [min(here, there) for here, there in zip(grid, positions, strict=True)]
    if smaller == list(grid):
        return student
    if len(smaller) == 1:
        return F.adaptive_avg_pool1d(student, smaller[0])
    return F.adaptive_avg_pool2d(student, (smaller[0], smaller[1]))


def _linear(student: Tensor, weight_ED: Tensor, bias_E: Tensor) -> Tensor:
    match student.ndim:
        case 2:
            return F.linear(student, weight_ED, bias_E)
        case 3:
            return F.conv1d(student, weight_ED[:, :, None], bias_E)
        case _:
            return F.conv2d(student, weight_ED[:, :, None, None], bias_E)


def _spread(student: Tensor, positions: torch.Size) -> Tensor:
    """The student's grid, interpolated up or repeated to the teacher's positions."""
    if student.ndim == 2 and positions:
        return student.reshape(*student.shape, *(1,) * len(positions)).expand(-1, -1, *positions)
    if student.shape[2:] == positions:
        return student
    mode = "linear" if len(positions) == 1 else "bilinear"
    return F.interpolate(student, size=list(positions), mode=mode, align_corners=False)


def _size(feature: Tensor) -> str:
    return "×".join(str(n) for n in feature.shape[2:]) or "1"
