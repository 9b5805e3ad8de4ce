"""A run: its stages in order, each done once."""

from potstill.pipeline.experiment import (
    EnsembleSource,
    EstimatorSource,
    Experiment,
    GivenTeacher,
    Learning,
    MadeModel,
    TeacherSource,
    TrainedTeacher,
)
from potstill.pipeline.pipeline import Pipeline
from potstill.pipeline.run import Run

__all__ = [
    "EnsembleSource",
    "EstimatorSource",
    "Experiment",
    "GivenTeacher",
    "Learning",
    "MadeModel",
    "Pipeline",
    "Run",
    "TeacherSource",
    "TrainedTeacher",
]
