"""The one place that imports torch-pruning, which warns while it is imported."""

import warnings
from types import ModuleType

from potstill.errors import need


def torch_pruning() -> ModuleType:
    """The library.

    Raises:
        MissingExtra: it is not installed; the extra is `compress`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return need("torch_pruning", extra="compress")
