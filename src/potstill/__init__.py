"""Potstill: knowledge distillation from a teacher to a measured student.

Verbs: `distill` (objects in, a measured run out), `run` (the same from a recipe), `plan` (a dry
run), `label` (a teacher's answers into a store), `compress_run` (a run's models to one size),
`export_run` (a student into files), `load` (the student in one of them), `search_recipe` (the right
student), `try_run` (a page that asks the models). Nouns: `Teacher`, `Term`,
`Objective`, `Distiller`, `Recipe`, `Run`, `Store`. Everything else lives in sub-packages:
`potstill.losses`, `potstill.teachers`, `potstill.data`, `potstill.models`, `potstill.tasks`, …

Importing this package imports nothing else: names are fetched when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from potstill.api import (
        compress_run,
        distill,
        export_run,
        label,
        load_recipe,
        plan,
        run,
        search_recipe,
        try_run,
    )
    from potstill.errors import PotstillError
    from potstill.losses import KD, CrossEntropy, Hint, Objective
    from potstill.models import load
    from potstill.pipeline import Run
    from potstill.pipeline.compression import Compression
    from potstill.protocols import Task, Teacher, Term
    from potstill.recipe import Recipe
    from potstill.signals import Batch, Signals, Target
    from potstill.store import Store
    from potstill.teachers import EstimatorTeacher, FunctionTeacher, ModuleTeacher, StoredTeacher
    from potstill.train import Distiller, TensorBatches, TrainSettings

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "compress_run",
    "Compression",
    "CrossEntropy",
    "distill",
    "Distiller",
    "EstimatorTeacher",
    "export_run",
    "FunctionTeacher",
    "Hint",
    "KD",
    "label",
    "load",
    "load_recipe",
    "ModuleTeacher",
    "Objective",
    "plan",
    "PotstillError",
    "Recipe",
    "Run",
    "run",
    "search_recipe",
    "Signals",
    "Store",
    "StoredTeacher",
    "Target",
    "Task",
    "Teacher",
    "TensorBatches",
    "Term",
    "TrainSettings",
    "try_run",
]

_HOMES = {
    "Batch": "potstill.signals",
    "compress_run": "potstill.api",
    "Compression": "potstill.pipeline.compression",
    "CrossEntropy": "potstill.losses",
    "distill": "potstill.api",
    "Distiller": "potstill.train",
    "EstimatorTeacher": "potstill.teachers",
    "export_run": "potstill.api",
    "FunctionTeacher": "potstill.teachers",
    "Hint": "potstill.losses",
    "KD": "potstill.losses",
    "label": "potstill.api",
    "load": "potstill.models",
    "load_recipe": "potstill.api",
    "ModuleTeacher": "potstill.teachers",
    "Objective": "potstill.losses",
    "plan": "potstill.api",
    "PotstillError": "potstill.errors",
    "Recipe": "potstill.recipe",
    "run": "potstill.api",
    "Run": "potstill.pipeline",
    "search_recipe": "potstill.api",
    "Signals": "potstill.signals",
    "Store": "potstill.store",
    "StoredTeacher": "potstill.teachers",
    "Target": "potstill.signals",
    "Task": "potstill.protocols",
    "Teacher": "potstill.protocols",
    "TensorBatches": "potstill.train",
    "Term": "potstill.protocols",
    "TrainSettings": "potstill.train",
    "try_run": "potstill.api",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'potstill' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"], key=str.casefold)
