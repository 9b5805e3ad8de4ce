"""Models that write: prompts in, continuations out, behind one interface (`Engine`)."""

from potstill.generation.engine import Engine, Sampling, Written
from potstill.generation.hugging import HuggingFaceEngine
from potstill.generation.vllm import VllmEngine

__all__ = ["Engine", "HuggingFaceEngine", "Sampling", "VllmEngine", "Written"]
