"""The one place that imports Optuna, and keeps it quiet."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from potstill.errors import need

EXTRA = "search"


def optuna() -> Any:  # noqa: ANN401 - a module
    """The library, silent below an error.

    Raises:
        MissingExtra: it is not installed.
    """
    with quiet():
        module: Any = need("optuna", extra=EXTRA)
        module.logging.set_verbosity(module.logging.ERROR)
    return module


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings: of experimental parts, of deprecations inside the library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
