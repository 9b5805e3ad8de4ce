"""The one training loop. Teachers, scratch students and distilled students all go through it."""

from potstill.train.batches import Batches, TensorBatches
from potstill.train.distiller import Distiller, Fit
from potstill.train.growing import GrowingTeacher
from potstill.train.mean_teacher import MeanTeacher
from potstill.train.mutual import Peers
from potstill.train.on_policy import OnPolicy
from potstill.train.replay import Replay
from potstill.train.rollout import Rollout
from potstill.train.settings import OptimizerName, ScheduleName, Select, TrainSettings

__all__ = [
    "Batches",
    "Distiller",
    "Fit",
    "GrowingTeacher",
    "MeanTeacher",
    "OnPolicy",
    "OptimizerName",
    "Peers",
    "Replay",
    "Rollout",
    "ScheduleName",
    "Select",
    "TensorBatches",
    "TrainSettings",
]
