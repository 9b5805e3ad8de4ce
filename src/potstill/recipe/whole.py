"""The whole of a recipe."""

from typing import Annotated, Literal

import yaml
from pydantic import BeforeValidator, Field

from potstill.recipe.compressing import CompressSpec
from potstill.recipe.data import DataSpec
from potstill.recipe.forms import Strict
from potstill.recipe.learning import DistillSpec
from potstill.recipe.running import (
    BoundsSpec,
    ExportName,
    MeasureSpec,
    ParitySpecs,
    StoreSpec,
    _Store,
)
from potstill.recipe.teaching import ChainSpec, StudentSpec, TeacherSpec


def _seed_list(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return tuple(range(value)) if value > 0 else value
    return value


class Recipe(Strict):
    """The description of a run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Of the run and its folder: letters, digits, `.`, `_` and `-`.",
    )
    description: str = Field("", description="A sentence for readers.")
    task: Literal[
        "classification",
        "keyword",
        "multi_label",
        "regression",
        "tagging",
        "embedding",
        "asr",
        "seq2seq",
        "causal_lm",
        "detection",
    ] = Field("classification", description="What is learnt and how it is scored.")
    primary: str | None = Field(
        None,
        description="The metric that selects and decides, such as balanced_accuracy for classes of "
        "unequal size; accuracy, f1_macro or rmse by the task if left out.",
    )
    class_weights: Literal["none", "balanced", "sqrt"] = Field(
        "none",
        description="How much labels of rare classes count in cross entropy, with and without the "
        "teacher: balanced by 1 / frequency, sqrt by its root.",
    )
    data: DataSpec = Field(description="What is learnt from and tested on.")
    teacher: TeacherSpec = Field(description="Who is learnt from.")
    student: StudentSpec = Field(description="The small model.")
    distill: DistillSpec = Field(
        DistillSpec(), description="How the student learns; scratch learns alike, on labels alone."
    )
    chain: ChainSpec | None = Field(None, description="Models between teacher and student.")
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seed_list)] = Field(
        (0, 1, 2), min_length=1, description="A number of seeds, or a list of them."
    )
    export: tuple[ExportName, ...] = Field(
        ("auto",),
        description="Forms that the students are written in. auto: hf (`save_pretrained`) of "
        "language models, else onnx.",
    )
    parity: ParitySpecs = Field(
        ParitySpecs(), description="How far exported files may be from the student."
    )
    measure: MeasureSpec = Field(MeasureSpec(), description="How the models are measured.")
    compress: CompressSpec = Field(
        CompressSpec(), description="How `potstill compress` squeezes the run's models."
    )
    speed: Literal["auto", "exact"] = Field(
        "auto",
        description="auto: the fastest way of computing whose answers stay within `bounds`. "
        "exact: bit for bit the plain PyTorch loop.",
    )
    bounds: BoundsSpec = Field(BoundsSpec(), description="How far `speed: auto` may be from exact.")
    store: _Store = Field(
        StoreSpec(),
        description="Whether the teacher's answers are written once and read by every student.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: a GPU where there is one."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="Of training: float32, or half precision where it suffices."
    )
    track: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        (), description="Also log to these trackers."
    )

    def to_yaml(self, *, short: bool = False) -> str:
        """The recipe with every default filled in, or `short`: without what is a default."""
        content = self.model_dump(mode="json", exclude_defaults=short)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
