"""The right student: what can be chosen, what it may cost, what was tried, which one to take.

Knows no pipelines: whoever runs trials asks a `Study` for values and tells it what came of them.
"""

from potstill.search.families import FAMILY, OWN, TERMS, About, families, shape
from potstill.search.lessons import LR, learning_knobs, lesson, objective, terms_choice
from potstill.search.recommending import Recommendation, recommend
from potstill.search.space import Choice, Knob, Space, Value, Values, of_branch
from potstill.search.study import Asked, Study, count
from potstill.search.targets import Targets, parse_limit, shown, targets_of
from potstill.search.trials import State, Trial, front, rivals

__all__ = [
    "FAMILY",
    "LR",
    "OWN",
    "TERMS",
    "About",
    "Asked",
    "Choice",
    "Knob",
    "Recommendation",
    "Space",
    "State",
    "Study",
    "Targets",
    "Trial",
    "Value",
    "Values",
    "count",
    "families",
    "front",
    "learning_knobs",
    "lesson",
    "objective",
    "of_branch",
    "parse_limit",
    "recommend",
    "rivals",
    "shape",
    "shown",
    "targets_of",
    "terms_choice",
]
