"""A run: its stages in order, each done once."""

from potstill.pipeline.experiment import (
    EnsembleSource,
    EstimatorSource,
    Experiment,
    GivenTeacher,
    Keep,
    Learning,
    MadeModel,
    Sequences,
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
    "Keep",
    "Learning",
    "MadeModel",
    "Pipeline",
    "Run",
    "Sequences",
    "TeacherSource",
    "TrainedTeacher",
]
