"""The one training loop. Teachers, scratch students and distilled students all go through it."""

from potstill.train.batches import Batches, TensorBatches
from potstill.train.distiller import Distiller, Fit
from potstill.train.settings import OptimizerName, ScheduleName, Select, TrainSettings

__all__ = [
    "Batches",
    "Distiller",
    "Fit",
    "OptimizerName",
    "ScheduleName",
    "Select",
    "TensorBatches",
    "TrainSettings",
]
