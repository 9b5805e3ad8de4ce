"""What a model is asked and how its answers are scored: one file per family of tasks."""

from potstill.tasks.detection import Detection
from potstill.tasks.embedding import Embedding
from potstill.tasks.language import CausalLM
from potstill.tasks.predicting import Classification, MultiLabel, Regression
from potstill.tasks.tagging import Tagging
from potstill.tasks.translation import Seq2Seq

__all__ = [
    "CausalLM",
    "Classification",
    "Detection",
    "Embedding",
    "MultiLabel",
    "Regression",
    "Seq2Seq",
    "Tagging",
]
