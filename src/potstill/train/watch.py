"""Who may end a training early by what its validations say."""

from collections.abc import Callable
from typing import TypeAlias

Watch: TypeAlias = Callable[[int, float], None]
"""Told of each validation's epoch and primary metric; what it raises ends the training."""
