"""The one training loop. Teachers, scratch students and distilled students all go through it."""

from potstill.train.batches import Batches, TensorBatches
from potstill.train.distiller import Distiller, Fit
from potstill.train.on_policy import OnPolicy
from potstill.train.replay import Replay
from potstill.train.rollout import Rollout
from potstill.train.settings import OptimizerName, ScheduleName, Select, TrainSettings

__all__ = [
    "Batches",
    "Distiller",
    "Fit",
    "OnPolicy",
    "OptimizerName",
    "Replay",
    "Rollout",
    "ScheduleName",
    "Select",
    "TensorBatches",
    "TrainSettings",
]
