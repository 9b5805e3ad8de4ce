"""What a model is asked and how its answers are scored: one file per family of tasks."""

from potstill.tasks.language import CausalLM
from potstill.tasks.predicting import Classification, MultiLabel, Regression
from potstill.tasks.tagging import Tagging

__all__ = ["CausalLM", "Classification", "MultiLabel", "Regression", "Tagging"]
