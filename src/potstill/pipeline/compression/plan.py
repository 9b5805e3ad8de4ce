"""What each way would weigh, said before anything trains."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import final

from torch import Tensor, nn

from potstill.compress.pruning import narrowest, prune_to
from potstill.compress.weight import Precision, bytes_of
from potstill.errors import ModelError, RecipeError
from potstill.models.pruned import sizes_of
from potstill.pipeline.compression.bench import Bench, Start
from potstill.pipeline.compression.files import overhead
from potstill.pipeline.compression.options import Compression, Way
from potstill.pipeline.workshop import Workshop

SLACK = 1.05
"""A file counts as meeting a size up to a twentieth above it."""

USUAL_RATIO = 8  # of the student's file, where no size is given


@final
@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a way would come to.

    Args:
        way: which.
        nearest: bytes of the smallest file it can give.
        overhead: bytes of its file beside the weights.
        reaches: whether that meets the target.
        obstacle: why it cannot be gone at all; empty if it can.
    """

    way: Way
    nearest: int
    overhead: int
    reaches: bool
    obstacle: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether it is trained: a way that keeps the shape is shown at its own size."""
        return not self.obstacle and (self.reaches or self.way.keeps_shape)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size that is aimed at, and what each way would come to."""

    target: int
    ways: tuple[Planned, ...]

    def weights(self, planned: Planned) -> int:
        """Bytes that a way's weights may have."""
        return self.target - planned.overhead


def make_plan(shop: Workshop, bench: Bench) -> Plan:
    """Sizes of all ways, from the models' shapes and one file of each kind.

    Raises:
        RecipeError: no way meets the target; the nearest that one can is said.
    """
    options = bench.options
    over = _overheads(shop, bench)
    target = _target(bench, over)
    ways = tuple(_planned(shop, bench, way, over, target) for way in options.ways)
    able = [planned for planned in ways if not planned.obstacle]
    if not able:
        raise RecipeError(f"No way can be gone: {ways[0].obstacle}")
    if not any(planned.reaches for planned in able):
        best = min(able, key=lambda planned: planned.nearest)
        raise RecipeError(
            f"No way meets {target:,} bytes: the nearest is `{best.way}` with {best.nearest:,} "
            f"bytes. Ask for --to {best.nearest} or more, or run a recipe with a smaller student."
        )
    return Plan(target=target, ways=ways)


def narrowed(
    shop: Workshop, start: Start, most: int, precision: Precision, options: Compression
) -> nn.Module:
    """An untrained or trained model cut to so many bytes, by magnitude; only its shape is used."""
    return prune_to(
        start.module,
        shop.experiment.data.example(),
        most=most,
        weigh=lambda module: bytes_of(module, precision),
        round_to=options.round_to,
    )


_Over = Mapping[str, int]
_WHOLE = "whole"


def _overheads(shop: Workshop, bench: Bench) -> _Over:
    """What files take beside their weights, by start and precision: a stage.

    Of the narrowest model, where there is one: what exporters fold away then hardly counts.
    """
    first = bench.students["distilled", bench.seeds[0]]
    starts = {"student": first, **({} if bench.teacher is None else {"teacher": bench.teacher})}
    options = bench.options
    needed = {_beside(way) for way in options.ways}
    if options.to is None:
        needed.add(f"{'student' if options.ratio is None else 'teacher'} {Precision.FLOAT32}")
    shapes = [str(sizes_of(start.module)) for start in starts.values()]
    found = shop.run(
        "sizes",
        depends_on=shop.key(*shapes, options.round_to, sorted(needed)),
        files=(),
        work=lambda: {name: _measured(shop, bench, starts, name) for name in sorted(needed)},
    )
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _beside(way: Way) -> str:
    beside = f"{'student' if way.distils else 'teacher'} {precision_of(way)}"
    return f"{beside} {_WHOLE}" if way.keeps_shape else beside


def _measured(shop: Workshop, bench: Bench, starts: Mapping[str, Start], name: str) -> int | None:
    who, precision, *whole = name.split()
    if who not in starts:
        return None
    module = starts[who].module
    if not whole:
        try:
            module = narrowest(module, _example(shop), round_to=bench.options.round_to)
        except ModelError:  # which is said of the ways that prune
            module = starts[who].module
    return overhead(shop, module, Precision(precision), rows=bench.options.rows)


def _target(bench: Bench, over: _Over) -> int:
    options = bench.options
    if options.to is not None:
        return options.to
    student = bench.students["distilled", bench.seeds[0]].module
    if options.ratio is None:
        whole = bytes_of(student) + over[f"student {Precision.FLOAT32}"]
        return round(whole / USUAL_RATIO)
    if bench.teacher is None:
        raise RecipeError(
            "`ratio` is of the teacher's file, and this teacher is no single torch module; say a "
            "size with --to."
        )
    whole = bytes_of(bench.teacher.module) + over[f"teacher {Precision.FLOAT32}"]
    return round(whole / options.ratio)


def _planned(shop: Workshop, bench: Bench, way: Way, over: _Over, target: int) -> Planned:
    precision = precision_of(way)
    try:
        module = bench.start(way, bench.seeds[0], taught=True).module
        beside = over[_beside(way)]
        nearest = beside + bytes_of(module, precision)
        if nearest > target and not way.keeps_shape:
            least = narrowest(module, _example(shop), round_to=bench.options.round_to)
            nearest = beside + bytes_of(least, precision)
    except (ModelError, RecipeError) as error:
        return Planned(way=way, nearest=0, overhead=0, reaches=False, obstacle=str(error))
    met = nearest <= target * (SLACK if way.keeps_shape else 1)
    return Planned(way=way, nearest=nearest, overhead=beside, reaches=met)


def _example(shop: Workshop) -> Tensor:
    return shop.experiment.data.example()


def precision_of(way: Way) -> Precision:
    """In what numbers the file of a way is."""
    return Precision.INT8 if way.quantises else Precision.FLOAT32


Say = Callable[[str], None]


def announce(plan: Plan, say: Say) -> None:
    """The target, and which ways do not meet it."""
    say(f"compress: to {plan.target:,} bytes")
    for planned in plan.ways:
        if planned.obstacle:
            say(f"warning: `{planned.way}` is left out: {planned.obstacle}")
        elif not planned.reaches:
            kept = "shown at that size" if planned.is_gone else "left out"
            say(f"`{planned.way}` comes to {planned.nearest:,} bytes at the least and is {kept}.")
