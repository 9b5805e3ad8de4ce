"""Recipes: the description of a run as values, strictly checked. No code, no torch.

A recipe is YAML or the same thing as typed Python: `Recipe(name=…, data=DataSpec(…), …)`.
Unknown keys are refused with the nearest known name.
"""

from potstill.recipe.checking import parse
from potstill.recipe.compressing import CompressSpec
from potstill.recipe.data import DataSpec, LongTailSpec, NoiseSpec, SyntheticSpec, TransferSpec
from potstill.recipe.forms import Open, Options, Strict
from potstill.recipe.learning import (
    CurriculumSpec,
    DataFreeSpec,
    DistillSpec,
    LearnSpec,
    MixSpec,
    OnPolicySpec,
    ReplaySpec,
    SequencesSpec,
    StepSpec,
    TermSpec,
    TrainSpec,
)
from potstill.recipe.models import ModelSpec
from potstill.recipe.reading import json_schema, load, shipped
from potstill.recipe.running import (
    BoundsSpec,
    CodecSpec,
    HarnessSpec,
    MeasureSpec,
    ParitySpec,
    ParitySpecs,
    StoreSpec,
    YearSpec,
)
from potstill.recipe.teaching import (
    AssistantSpec,
    AverageSpec,
    ChainSpec,
    LookSpec,
    MemberSpec,
    PeerSpec,
    RouteSpec,
    StudentSpec,
    TaughtSpec,
    TeacherSpec,
)
from potstill.recipe.whole import Recipe

__all__ = [
    "AssistantSpec",
    "AverageSpec",
    "BoundsSpec",
    "ChainSpec",
    "CodecSpec",
    "CompressSpec",
    "CurriculumSpec",
    "DataFreeSpec",
    "DataSpec",
    "DistillSpec",
    "HarnessSpec",
    "LearnSpec",
    "LongTailSpec",
    "LookSpec",
    "MeasureSpec",
    "MemberSpec",
    "MixSpec",
    "ModelSpec",
    "NoiseSpec",
    "OnPolicySpec",
    "Open",
    "Options",
    "ParitySpec",
    "ParitySpecs",
    "PeerSpec",
    "Recipe",
    "ReplaySpec",
    "RouteSpec",
    "SequencesSpec",
    "StepSpec",
    "StoreSpec",
    "Strict",
    "StudentSpec",
    "SyntheticSpec",
    "TaughtSpec",
    "TeacherSpec",
    "TermSpec",
    "TrainSpec",
    "TransferSpec",
    "YearSpec",
    "json_schema",
    "load",
    "parse",
    "shipped",
]
