"""How to read a feature: which axis holds the features, which the positions.

Shapes: B samples, D features, then positions: none, L in a row, or H by W.
"""

from enum import StrEnum
from math import isqrt

from torch import Size, Tensor

from potstill.errors import HandshakeError

_EXTRA_TOKENS = (0, 1, 2, 5)  # none; class; class and distillation; class and four registers


class Layout(StrEnum):
    """The meaning of the axes of a feature."""

    MAP = "map"  # [B, D, H, W]
    MAP_LAST = "map_last"  # [B, H, W, D]
    SIGNAL = "signal"  # [B, D, L]
    TOKENS = "tokens"  # [B, T, D]
    VECTOR = "vector"  # [B, D]


_AXES = {
    Layout.MAP: 4,
    Layout.MAP_LAST: 4,
    Layout.SIGNAL: 3,
    Layout.TOKENS: 3,
    Layout.VECTOR: 2,
}
_BY_AXES = {4: Layout.MAP, 3: Layout.TOKENS, 2: Layout.VECTOR}


def layout_of(shape: Size, *, given: Layout | str | None = None) -> Layout:
    """The layout of a feature: the one given, else by its number of axes.

    Three axes are read as tokens `[B, T, D]`; one-dimensional convolutions give `[B, D, L]`, which
    nobody can tell from the numbers: give "signal" for them.

    Raises:
        HandshakeError: no layout has that many axes, or the one given has not.
    """
    if given is not None:
        if _AXES[Layout(given)] != len(shape):
            raise HandshakeError(
                f"The layout `{given}` has {_AXES[Layout(given)]} axes and the feature has the "
                f"shape {list(shape)}; leave the layout out or choose another."
            )
        return Layout(given)
    if len(shape) not in _BY_AXES:
        raise HandshakeError(
            f"A feature of shape {list(shape)} cannot be matched; choose a layer that gives "
            "[B, D], [B, T, D] or [B, D, H, W]."
        )
    return _BY_AXES[len(shape)]


def features_first(feature: Tensor, layout: Layout) -> Tensor:
    """The same feature as `[B, D, *positions]`; a view."""
    if layout in (Layout.TOKENS, Layout.MAP_LAST):
        return feature.movedim(-1, 1)
    return feature


def on_common_positions(
    student: Tensor, teacher: Tensor, *, student_layout: Layout, teacher_layout: Layout
) -> tuple[Tensor, Tensor]:
    """Both features with the same number of position axes, features first.

    A map and tokens meet as maps: class and other extra tokens are dropped, so that the rest fills
    a grid of the map's proportions. Tokens of unequal number meet as square grids where both can
    be. In every other mixture, positions are laid out in a row. A vector stays a vector.

    Raises:
        HandshakeError: the tokens fill no grid.
    """
    student = features_first(student, student_layout)
    teacher = features_first(teacher, teacher_layout)
    student_rank, teacher_rank = student.ndim - 2, teacher.ndim - 2
    if 0 in (student_rank, teacher_rank) or student_rank == teacher_rank == 2:
        return student, teacher
    if student_rank == 2 and teacher_layout is Layout.TOKENS:
        return student, _grid(teacher, like=student)
    if teacher_rank == 2 and student_layout is Layout.TOKENS:
        return _grid(student, like=teacher), teacher
    if student_layout is teacher_layout is Layout.TOKENS and student.shape[2] != teacher.shape[2]:
        squares = as_grid(student, (1, 1)), as_grid(teacher, (1, 1))
        if squares[0] is not None and squares[1] is not None:
            return squares[0], squares[1]
    return student.flatten(2), teacher.flatten(2)


def _grid(tokens: Tensor, *, like: Tensor) -> Tensor:
    height, width = like.shape[2:]
    grid = as_grid(tokens, (height, width))
    if grid is None:
        raise HandshakeError(
            f"{tokens.shape[2]} tokens fill no grid of the proportions {height}:{width}; "
            "choose another layer, or give the layout if these are not tokens."
        )
    return grid


def as_grid(tokens_BDT: Tensor, proportions: tuple[int, int]) -> Tensor | None:
    """Tokens as `[B, D, H, W]` of these proportions, extra ones dropped; `None` if none fits."""
    high, wide = proportions
    for extra in _EXTRA_TOKENS:
        count = tokens_BDT.shape[2] - extra
        height = isqrt(max(count, 0) * high // wide)
        if height > 0 and count % height == 0 and count // height * high == height * wide:
            return tokens_BDT[:, :, extra:].reshape(*tokens_BDT.shape[:2], height, -1)
    return None
