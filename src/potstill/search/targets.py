"""What a student may cost: limits with units, and how far figures are beyond them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from potstill.errors import RecipeError

LATENCY, SIZE, PARAMETERS, FLOPS, MEMORY = "latency_ms", "bytes", "parameters", "flops", "memory"
QUANTITIES = (LATENCY, SIZE, PARAMETERS, FLOPS, MEMORY)
WORDS = {
    LATENCY: "latency",
    SIZE: "size",
    PARAMETERS: "parameters",
    FLOPS: "FLOPs",
    MEMORY: "memory",
}
OPTIONS = {
    LATENCY: "--latency",
    SIZE: "--size",
    PARAMETERS: "--params",
    FLOPS: "--flops",
    MEMORY: "--memory",
}
BASE = {LATENCY: "ms", SIZE: "B", PARAMETERS: "", FLOPS: "", MEMORY: "B"}
_TIMES = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_UNITS = {LATENCY: _TIMES, SIZE: _BYTES, MEMORY: _BYTES, PARAMETERS: _COUNTS, FLOPS: _COUNTS}
_EXAMPLES = {LATENCY: "5ms", SIZE: "1MB", MEMORY: "10MB", PARAMETERS: "200k", FLOPS: "10M"}


def parse_limit(quantity: str, text: str) -> float:
    """`5ms` as 5.0 (milliseconds), `1MB` as 1e6 (bytes), `200k` as 2e5.

    Raises:
        RecipeError: no number, no unit that is known, or not above zero.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)\s*", text.lower())
    units = _UNITS[quantity]
    if match is None or match[2] not in units or float(match[1]) <= 0:
        known = ", ".join(unit for unit in units if unit)
        raise RecipeError(
            f"`{OPTIONS[quantity]} {text}` is no {WORDS[quantity]}: give a number above 0 with a "
            f"unit ({known}), for example {OPTIONS[quantity]} {_EXAMPLES[quantity]}."
        )
    return float(match[1]) * units[match[2]]


def shown(quantity: str, value: float | None) -> str:
    """A figure with its unit, for people."""
    if value is None:
        return "–"
    if quantity == LATENCY:
        return f"{value:.3g} ms"
    unit = "B" if quantity in (SIZE, MEMORY) else ""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}{unit}".strip()
    return f"{value:.0f} {unit}".strip()


@final
@dataclass(frozen=True, kw_only=True)
class Targets:
    """Limits that a student must keep; the first one is what it is weighed against.

    Args:
        limits: by quantity (`QUANTITIES`): milliseconds a call, bytes of the file, parameters,
            FLOPs a sample, bytes of working memory.
        axis: what is made small; the first limit's quantity, or the latency where there is none.
    """

    limits: Mapping[str, float]
    axis: str = LATENCY

    def excess(self, figures: Mapping[str, float | None]) -> dict[str, float]:
        """By how much each limit is missed, as a share of it; 0 or less where it is kept."""
        found: dict[str, float] = {}
        for quantity, limit in self.limits.items():
            value = figures.get(quantity)
            if value is not None:
                found[quantity] = value / limit - 1.0
        return found

    def missed(self, figures: Mapping[str, float | None]) -> str:
        """Which limits are missed, in words; empty if none is."""
        return " and ".join(
            f"{WORDS[q]} {shown(q, figures[q])} > {shown(q, self.limits[q])}"
            for q, share in self.excess(figures).items()
            if share > 0
        )

    def worst(self, figures: Mapping[str, float | None]) -> float:
        """The greatest excess."""
        return max(self.excess(figures).values(), default=0.0)

    def __str__(self) -> str:
        said = [f"{WORDS[q]} ≤ {shown(q, limit)}" for q, limit in self.limits.items()]
        return " and ".join(said) or f"no limit; {WORDS[self.axis]} as low as can be"


def targets_of(given: Mapping[str, str | float | None]) -> Targets:
    """Limits from texts or numbers by quantity, in their order; the first one is the axis."""
    limits = {
        quantity: parse_limit(quantity, value) if isinstance(value, str) else float(value)
        for quantity, value in given.items()
        if value is not None
    }
    for quantity, limit in limits.items():
        if not limit > 0:
            raise RecipeError(f"A {WORDS[quantity]} of {limit:g} cannot be kept; give one above 0.")
    return Targets(limits=limits, axis=next(iter(limits), LATENCY))
