"""Which metric decides: students are selected by it and the verdict is about it."""

from collections.abc import Mapping
from difflib import get_close_matches

from potstill.errors import RecipeError


def direction(primary: str, known: Mapping[str, bool], *, task: str) -> bool:
    """Whether more of a metric is better.

    Args:
        primary: its name.
        known: the metrics that can decide, and whether more of each is better.
        task: for the sentence.

    Raises:
        RecipeError: the task has no such metric.
    """
    if primary not in known:
        close = get_close_matches(primary, known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"choose one of {', '.join(known)}."
        raise RecipeError(f"`primary: {primary}` cannot decide in {task}; {hint}")
    return known[primary]
