"""What `compress` is asked for: a size, the ways to it, and how long each may train."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import final

from potstill.compress.importance import Importance
from potstill.errors import RecipeError


class Way(StrEnum):
    """How a small file is come by. Ways that distil begin with the student, others the teacher."""

    DISTIL = "distil"
    PRUNE = "prune"
    QUANTISE = "quantise"
    PRUNE_QUANTISE = "prune+quantise"
    DISTIL_PRUNE = "distil+prune"
    DISTIL_QUANTISE = "distil+quantise"
    ALL = "distil+prune+quantise"
    SPARSE = "distil+sparse"
    TWO_OF_FOUR = "distil+2:4"

    @property
    def distils(self) -> bool:
        """Whether it begins with the student instead of the teacher."""
        return "distil" in self.value

    @property
    def prunes(self) -> bool:
        """Whether trained channels are taken away."""
        return "prune" in self.value

    @property
    def quantises(self) -> bool:
        """Whether the file is in 8 bits."""
        return "quantise" in self.value

    @property
    def zeroes(self) -> bool:
        """Whether weights become zero where they are."""
        return self in (Way.SPARSE, Way.TWO_OF_FOUR)

    @property
    def keeps_shape(self) -> bool:
        """Whether nothing but numbers changes: such a file is shown at its own size."""
        return self is Way.QUANTISE or self.zeroes


USUAL = (
    Way.DISTIL,
    Way.PRUNE,
    Way.QUANTISE,
    Way.DISTIL_PRUNE,
    Way.DISTIL_QUANTISE,
    Way.ALL,
)


class Quantised(StrEnum):
    """When weights and activations become 8 bits."""

    AUTO = "auto"  # after training, and in training where that alone costs too much
    AFTER = "after"  # training: ranges are seen on training rows
    TRAINING = "training"  # the last epochs feel the rounding


@final
@dataclass(frozen=True, kw_only=True)
class Compression:
    """How to squeeze.

    Args:
        to: bytes that the file may have.
        ratio: the same, as how many times smaller than the teacher's file; if neither is given, an
            eighth of the student's file.
        ways: which are compared.
        epochs: of training in each way, all its steps together; the run's own number if left out.
        steps: in how many steps channels go; each is followed by training.
        importance: by what channels are compared.
        round_to: channels that stay come in multiples of this.
        quantised: see `Quantised`.
        rows: training samples on which ranges and importance are seen.
        skip: layers that stay in float32, and without zeros.
        group: inputs that share a scale in 4 bits, of language models; a power of two.
        sparsity: share of zeros in each layer, of `distil+sparse`.
        seeds: of which students; those of the run if left out.

    Raises:
        RecipeError: two sizes, no way, or a number out of range.
    """

    to: int | None = None
    ratio: float | None = None
    ways: tuple[Way, ...] = USUAL
    epochs: int | None = None
    steps: int = 3
    importance: Importance = Importance.MAGNITUDE
    round_to: int = 8
    quantised: Quantised = Quantised.AUTO
    rows: int = 256
    skip: tuple[str, ...] = ()
    sparsity: float = 0.8
    group: int = 32
    seeds: tuple[int, ...] | None = field(default=None)

    def __post_init__(self) -> None:
        if self.to is not None and self.ratio is not None:
            raise RecipeError("`to` and `ratio` say the same size twice; give one of them.")
        for name, ok, expected in (
            ("to", self.to is None or self.to > 0, "a number of bytes above 0"),
            ("ratio", self.ratio is None or self.ratio > 1, "above 1"),
            ("ways", bool(self.ways), "at least one way"),
            ("epochs", self.epochs is None or self.epochs >= 1, "at least 1"),
            ("steps", self.steps >= 1, "at least 1"),
            ("round_to", self.round_to >= 1, "at least 1"),
            ("rows", self.rows >= 1, "at least 1"),
            ("sparsity", 0 < self.sparsity < 1, "between 0 and 1"),
        ):
            if not ok:
                raise RecipeError(f"`{name}` is {getattr(self, name)!r}; it must be {expected}.")

    def shares(self, epochs: int, *, stages: int) -> list[int]:
        """Epochs of each stage of a way, at least one; the last has what is left over."""
        each = max(1, epochs // stages)
        return [each] * (stages - 1) + [max(1, epochs - each * (stages - 1))]
