"""A projector sizes itself from two features and brings the student's to the teacher's shape.

Shapes: B samples, D features of the student, E of the teacher, positions behind them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.features.layout import Layout, features_first
from potstill.features.matcher import Matcher, averaged_down, spread


class Projector(Matcher):
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
        keep_width: no linear map between equal numbers of features, only the grid is changed.

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
        keep_width: bool = False,
    ) -> None:
        super().__init__(
            student, teacher, student_layout=student_layout, teacher_layout=teacher_layout
        )
        same_layout = self.student_layout is self.teacher_layout
        self.is_identity = same_layout and student.shape == teacher.shape
        num_student = features_first(student, self.student_layout).shape[1]
        num_teacher = features_first(teacher, self.teacher_layout).shape[1]
        self._maps = not self.is_identity and not (keep_width and num_student == num_teacher)
        self._described = self._describe(student, teacher)
        if not self._maps:
            return
        weight_ED, bias_E = initial_weights(num_student, num_teacher, seed=seed)
        self.weight = nn.Parameter(weight_ED.to(student.device))
        self.bias = nn.Parameter(bias_E.to(student.device))

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both features in one shape, `[B, E, *positions]`, in float32 or better.

        Args:
            student: with the number of features it was made for; the grid may vary.
            teacher: is only rearranged.
        """
        student, teacher = self.arranged(student, teacher)
        if self.is_identity:
            return student, teacher
        positions = teacher.shape[2:]
        student = averaged_down(student, positions)
        if self._maps:
            student = _linear(student, self.weight, self.bias)
        return spread(student, positions), teacher

    def describe(self) -> str:
        """One line: from which shape to which, and how."""
        return self._described

    def _describe(self, student: Tensor, teacher: Tensor) -> str:
        start = f"{self.student_layout} {list(student.shape[1:])}"
        end = f"{self.teacher_layout} {list(teacher.shape[1:])}"
        if self.is_identity:
            return f"{start} → {end}: as it is"
        student, teacher = self.arranged(student, teacher)
        steps = [f"linear {student.shape[1]} → {teacher.shape[1]}"] if self._maps else []
        if student.shape[2:] != teacher.shape[2:]:
            steps.append(f"positions {_size(student)} → {_size(teacher)}")
        return f"{start} → {end}: {', '.join(steps) or 'rearranged'}"


def initial_weights(num_student: int, num_teacher: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Weight `[E, D]` and bias `[E]` of a linear map, drawn under a seed."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(num_student)
    weight_ED = torch.empty(num_teacher, num_student).uniform_(-bound, bound, generator=generator)
    return weight_ED, torch.empty(num_teacher).uniform_(-bound, bound, generator=generator)


def _linear(student: Tensor, weight_ED: Tensor, bias_E: Tensor) -> Tensor:
    match student.ndim:
        case 2:
            return F.linear(student, weight_ED, bias_E)
        case 3:
            return F.conv1d(student, weight_ED[:, :, None], bias_E)
        case _:
            return F.conv2d(student, weight_ED[:, :, None, None], bias_E)


def _size(feature: Tensor) -> str:
    return "×".join(str(n) for n in feature.shape[2:]) or "1"
