"""Engines by name, for whoever reads recipes."""

from collections.abc import Sequence
from enum import StrEnum

from potstill.generation.engine import Engine
from potstill.generation.hugging import HuggingFaceEngine
from potstill.generation.vllm import VllmEngine


class EngineName(StrEnum):
    """What lets a model write."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


def make_engine(
    name: EngineName, *, ends: Sequence[int], pad: int, vocabulary: int | None = None
) -> Engine:
    """An engine.

    Args:
        name: which.
        ends: the tokens that end a continuation, any of them.
        pad: what fills up.
        vocabulary: how many tokens there are; what a wider head says of more is left out.
    """
    match name:
        case EngineName.TRANSFORMERS:
            return HuggingFaceEngine(ends=ends, pad=pad, vocabulary=vocabulary)
        case EngineName.VLLM:
            return VllmEngine(ends=ends, pad=pad, vocabulary=vocabulary)
