"""Augmentation as a pure function of (seed, sample, view).

Teacher and student, now or later, see the same picture, whatever else is in the batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self, final

import torch
from torch import Tensor

from potstill.data.box_moves import moved_labels
from potstill.data.draws import Draws
from potstill.data.ops import CATALOGUE as PLAIN
from potstill.data.ops import Op
from potstill.data.options import JSON, Options, nearest
from potstill.data.wave_ops import WAVE_OPS
from potstill.errors import RecipeError

CATALOGUE: dict[str, type[Op]] = {**PLAIN, **WAVE_OPS}
"""Every op by the name that recipes use."""

_RANKS = {2: "tables", 3: "signals", 4: "images"}


@final
@dataclass(frozen=True)
class Augment:
    """Ops applied one after the other, each with draws of its own.

    Args:
        ops: what to do, in order.
        seed: names the whole family of views; the same seed replays the same views.

    Example: `Augment((Jitter(pixels=2), Flip()), seed=0)(images, ids=ids, view=view)`
    """

    ops: tuple[Op, ...]
    seed: int = 0

    @classmethod
    def parse(cls, specs: Sequence[JSON], *, seed: int = 0) -> Self:
        """From plain values: names, or mappings such as `{op: jitter, pixels: 2}`.

        Raises:
            RecipeError: an op, one of its keys or a value is wrong.
        """
        return cls(tuple(_parse_op(spec) for spec in specs), seed)

    def __call__(self, inputs: Tensor, *, ids: Tensor, view: Tensor) -> Tensor:
        """`[B, ...]` float32 → the same shape; rows of view 0 come back as they are.

        Args:
            inputs: images in [0, 1] before standardisation, or standardised tables and signals.
            ids: `[B]` int64, sample identities.
            view: `[B]` int64, which view of each sample.
        """
        self.check(inputs)
        draws = Draws.of(self.seed, ids, view)
        result = inputs
        for number, op in enumerate(self.ops):
            result = op(result, draws.split(number))
        untouched = (view == 0).view(-1, *(1,) * (inputs.ndim - 1))
        return torch.where(untouched, inputs, result)

    def with_boxes(
        self, images: Tensor, labels_BM6: Tensor, *, ids: Tensor, view: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `__call__`, of images with boxes (`[B, M, 6]`, see `signals.Batch`), which go along.

        Boxes are cut at the edge; of which less than a quarter, or less than a pixel, is left in
        the picture are gone.

        Raises:
            RecipeError: an op that does not say where boxes go.
        """
        self.check(images)
        self.check_boxes()
        draws = Draws.of(self.seed, ids, view)
        moved, size = labels_BM6[..., 1:5], (images.shape[2], images.shape[3])
        result = images
        for number, op in enumerate(self.ops):
            mine = draws.split(number)
            result = op(result, mine)
            moved = op.moved(moved, size, mine)
        seen = view == 0
        labels = moved_labels(labels_BM6, moved, size)
        return (
            torch.where(seen.view(-1, 1, 1, 1), images, result),
            torch.where(seen.view(-1, 1, 1), labels_BM6, labels),
        )

    def check_boxes(self) -> None:
        """Raise `RecipeError` if an op does not say where boxes go."""
        for op in self.ops:
            if not op.keeps_boxes:
                fitting = [name for name, kind in CATALOGUE.items() if kind.keeps_boxes]
                raise RecipeError(
                    f"Augmentation `{type(op).__name__.lower()}` does not say where boxes go; for "
                    f"detection use {', '.join(f'`{name}`' for name in fitting)}."
                )

    def check(self, inputs: Tensor) -> None:
        """Raise `RecipeError` if an op does not apply to inputs of this rank."""
        for op in self.ops:
            if inputs.ndim not in op.dims:
                wanted = " and ".join(_RANKS[rank] for rank in sorted(op.dims))
                fitting = [name for name, kind in CATALOGUE.items() if inputs.ndim in kind.dims]
                raise RecipeError(
                    f"Augmentation `{type(op).__name__.lower()}` is for {wanted}, and the data are "
                    f"{_RANKS.get(inputs.ndim, f'of rank {inputs.ndim}')}; use one of "
                    f"{', '.join(f'`{name}`' for name in fitting)}, or none."
                )


def _parse_op(spec: JSON) -> Op:
    if isinstance(spec, str):
        spec = {"op": spec}
    if not isinstance(spec, Mapping) or not isinstance(name := spec.get("op"), str):
        raise RecipeError(
            f"An augmentation is a name or a mapping such as {{op: jitter, pixels: 2}}, "
            f"got {spec!r}."
        )
    if name not in CATALOGUE:
        raise RecipeError(f"There is no augmentation `{name}`; {nearest(name, CATALOGUE)}")
    kind = CATALOGUE[name]
    types = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    options = Options(spec, known={"op", *types}, owner=f"augmentation `{name}`")
    values = {key: _read(options, key, types[key]) for key in spec if key != "op"}
    return kind(**values)


def _read(options: Options, key: str, kind: object) -> int | float | str:
    value: int | float | str | None
    if kind is int:
        value = options.whole(key)
    elif kind is float:
        value = options.number(key)
    else:
        value = options.text(key)
    if value is None:
        raise RecipeError(f"Augmentation key `{key}` has no value; give one or leave the key out.")
    return value
