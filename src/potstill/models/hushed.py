"""Transformers without its bars and reports: what matters of them is said in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from potstill.errors import need


@contextmanager
def hushed() -> Iterator[None]:
    """Inside, Transformers logs errors alone and draws nothing; its settings are put back."""
    logging = need("transformers.utils.logging", extra="text")
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
