"""Every exception that Potstill raises on purpose.

    PotstillError                  one sentence: what was given, what was expected, the next step
    ├── RecipeError                the description of the run is wrong
    ├── DataError                  the data cannot be used as asked
    ├── ModelError                 a model cannot be found, built or loaded
    │   └── UntrustedCode          a recipe names code to run and `--trust` was not given
    ├── HandshakeError             terms need what teacher, student or data do not offer
    ├── MissingExtra               an optional library is not installed
    ├── NonFiniteLoss              training met inf or NaN; the batch was saved
    ├── StorageError               a file or folder cannot be read or written
    ├── RemoteError                a server cannot be reached, refuses, or gives too little
    ├── ExportError                the exported model is missing, broken, or answers differently
    └── Interrupted                the user stopped the run; its state was saved

The command line prints the message of any of these without a traceback and exits with `exit_code`.
"""

from importlib import import_module
from types import ModuleType


class PotstillError(Exception):
    """A foreseen failure. The message is one sentence for the user, with the next step."""

    exit_code = 1


class RecipeError(PotstillError, ValueError):
    """The recipe is wrong: a misspelt key, a wrong type, a value out of range."""


class DataError(PotstillError, ValueError):
    """The data are missing or cannot be used as the task asks."""


class ModelError(PotstillError, ValueError):
    """A model is unknown, cannot be built, or its weights do not fit."""


class UntrustedCode(ModelError):
    """Running code named in a recipe needs the user's word (`--trust`)."""


class HandshakeError(PotstillError, ValueError):
    """What the terms need and what the teacher, student and data offer do not match."""


class MissingExtra(PotstillError, ImportError):
    """An optional library is needed here."""


class NonFiniteLoss(PotstillError, ArithmeticError):
    """The loss became inf or NaN."""


class StorageError(PotstillError, OSError):
    """A file or folder could not be read or written."""


class StoreError(PotstillError, ValueError):
    """A store of a teacher's signals that is damaged, in use, or not the one that was asked for."""


class RemoteError(PotstillError, RuntimeError):
    """A model server cannot be reached, refuses, or does not give what is needed."""


class ExportError(PotstillError, RuntimeError):
    """The exported model is missing, broken, or does not answer as the student does."""


class Interrupted(PotstillError):
    """The user stopped the run after its state was saved."""

    exit_code = 130


def need(module: str, *, extra: str) -> ModuleType:
    """Import an optional library, or say how to install it.

    Equivalent to `importlib.import_module(module)`, with `MissingExtra` for `ImportError`.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"`{module}` is needed here and is not installed. "
            f"Install it with:  pip install 'potstill[{extra}]'"
        ) from error
