"""Data: sources, splits, augmentation that can be replayed, mixing, batches."""

from potstill.data.augment import Augment
from potstill.data.conditions import (
    Conditions,
    LabelNoise,
    LongTail,
    NoiseKind,
    Of,
    Transfer,
)
from potstill.data.curriculum import Curriculum, Pacing, Pick, ranks
from potstill.data.feed import Feed
from potstill.data.frequencies import class_frequencies
from potstill.data.given import from_arrays
from potstill.data.mix import CutMix, Mix, Mixup, Moment
from potstill.data.normalise import Normalise
from potstill.data.options import JSON
from potstill.data.samples import DataSet, Kind, Samples, TargetKind
from potstill.data.sources import load
from potstill.data.synthetic import Synthetic, Way, with_synthetic
from potstill.data.table_form import TableColumn, TableForm

__all__ = [
    "JSON",
    "Augment",
    "Conditions",
    "Curriculum",
    "CutMix",
    "DataSet",
    "Feed",
    "Kind",
    "LabelNoise",
    "LongTail",
    "Mix",
    "Mixup",
    "Moment",
    "NoiseKind",
    "Normalise",
    "Of",
    "Pacing",
    "Pick",
    "Samples",
    "Synthetic",
    "TableColumn",
    "TableForm",
    "TargetKind",
    "Transfer",
    "Way",
    "class_frequencies",
    "from_arrays",
    "load",
    "ranks",
    "with_synthetic",
]
