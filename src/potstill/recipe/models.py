"""A model by source and name."""

from typing import Literal

from pydantic import Field

from potstill.recipe.forms import Open


class ModelSpec(Open):
    """A model by source and name; further keys are its options."""

    source: Literal[
        "builtin",
        "timm",
        "torchvision",
        "hf",
        "file",
        "onnx",
        "sklearn",
        "python",
        "teacher",
        "api",
    ] = Field(
        "builtin",
        description="teacher: of students of texts, cut from the teacher's model. api: of teachers "
        "of language models, behind an OpenAI-compatible server.",
    )
    name: str = Field("", description="See `potstill recipes --models` for the builtin ones.")
