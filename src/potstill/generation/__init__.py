"""Models that write: prompts in, continuations out, behind one interface (`Engine`)."""

from potstill.generation.engine import Engine, Sampling, Written
from potstill.generation.hugging import HuggingFaceEngine
from potstill.generation.making import EngineName, make_engine
from potstill.generation.vllm import VllmEngine

__all__ = [
    "Engine",
    "EngineName",
    "HuggingFaceEngine",
    "Sampling",
    "VllmEngine",
    "Written",
    "make_engine",
]
