"""What a model is asked and how its answers are scored: one file per family of tasks."""

from potstill.tasks.detection import Detection
from potstill.tasks.embedding import Embedding
from potstill.tasks.language import CausalLM
from potstill.tasks.predicting import Classification, Keyword, MultiLabel, Regression
from potstill.tasks.speech import Dictation
from potstill.tasks.tagging import Tagging
from potstill.tasks.transcription import Transcription
from potstill.tasks.translation import Seq2Seq

__all__ = [
    "CausalLM",
    "Classification",
    "Detection",
    "Dictation",
    "Embedding",
    "Keyword",
    "MultiLabel",
    "Regression",
    "Seq2Seq",
    "Tagging",
    "Transcription",
]
