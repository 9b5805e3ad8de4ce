"""Trees and lists of rules, as they stand in the report: the distilled one first."""

from dataclasses import dataclass

from potstill.report.records import Results

_ORDER = ("distilled", "scratch")


@dataclass(frozen=True, kw_only=True)
class RulesShown:
    """What a student that can be read says, line by line."""

    role: str
    tree: bool
    count: int
    lines: tuple[str, ...]


def rules_of(results: Results) -> tuple[RulesShown, ...]:
    """The students that are rules; none where they are networks."""
    return tuple(
        RulesShown(
            role=role, tree=found.kind == "decision_tree", count=found.count, lines=found.lines
        )
        for role in _ORDER
        if role in results.models and (found := results.models[role].rules) is not None
    )
