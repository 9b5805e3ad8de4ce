"""Running a model as fast as this machine can: ways to run it, and choosing among them.

A way is kept only if its answers stay the same within stated bounds and if the time it saves over
the planned steps exceeds what it costs to prepare.
"""

from potstill.runtime.fast.bounds import Bounds, Difference, compare
from potstill.runtime.fast.choosing import Candidate, Prior, Ready, Work, choose
from potstill.runtime.fast.machine import Machine
from potstill.runtime.fast.memory import Memory
from potstill.runtime.fast.trials import EXACT, Choice, State, Trial

__all__ = [
    "EXACT",
    "Bounds",
    "Candidate",
    "Choice",
    "Difference",
    "Machine",
    "Memory",
    "Prior",
    "Ready",
    "State",
    "Trial",
    "Work",
    "choose",
    "compare",
]
