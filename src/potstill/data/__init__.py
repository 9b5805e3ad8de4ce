"""Data: sources, splits, augmentation that can be replayed, mixing, batches."""

from potstill.data.augment import Augment
from potstill.data.feed import Feed
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
    "CutMix",
    "DataSet",
    "Feed",
    "Kind",
    "Mix",
    "Mixup",
    "Moment",
    "Normalise",
    "Samples",
    "Synthetic",
    "TableColumn",
    "TableForm",
    "TargetKind",
    "Way",
    "from_arrays",
    "load",
    "with_synthetic",
]
