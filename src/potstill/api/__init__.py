"""The verbs. Each builds objects and calls one of them; none has behaviour of its own."""

from potstill.api.labelling import ask_recipe, label, label_recipe
from potstill.api.running import distill, load_recipe, plan, run
from potstill.api.searching import search_recipe
from potstill.api.shipping import check_export, compress_run, export_run, try_run

__all__ = [
    "ask_recipe",
    "check_export",
    "compress_run",
    "distill",
    "export_run",
    "label",
    "label_recipe",
    "load_recipe",
    "plan",
    "run",
    "search_recipe",
    "try_run",
]
